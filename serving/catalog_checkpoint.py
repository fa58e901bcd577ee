"""A checkpoint as its catalog row describes it, for a plan before a file of it is here."""

from pathlib import Path

from serving.architecture import read_architecture
from serving.catalog import SHAPE_KEYS, CatalogEntry
from serving.checkpoint import Checkpoint
from serving.quantization import Quantization
from serving.tensors import expected_tensors

# What the family's quantized checkpoints are; the bytes that follow are within 0.3 % of the files on the hub.
QUANTIZATIONS = {
    "bitsandbytes": Quantization("bitsandbytes", 8),
    "gptq": Quantization("gptq", 4, group_size=128, sym=True, desc_act=False),
}


def described(entry: CatalogEntry) -> Checkpoint | None:
    """The checkpoint with the sizes of the row, in float16; None where the row does not tell them all.

    Its tokens are not known, so it is for `make_plan` alone.
    """
    if entry.context is None or set(entry.shape) != set(SHAPE_KEYS):
        return None
    quantization = QUANTIZATIONS[entry.quantization] if entry.quantization else None
    config = {**entry.shape, "tie_word_embeddings": False}
    return Checkpoint(
        path=Path(entry.name),
        name=entry.name,
        entry=entry,
        config=config,
        generation_config={},
        template=entry.template,
        dtype="float16",
        quantization=quantization,
        tensors=dict(expected_tensors(read_architecture(config), quantization, "float16")),
        context=entry.context,
        eos_token_ids=(),
        stop_token_ids=(),
    )

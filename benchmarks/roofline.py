"""How far from the limit: what a step of a LLaMA model must read and compute, and how fast the machine does either."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.console import BenchmarkError
from benchmarks.systems import ROOT, Recipe

BYTES = {"float16": 2, "bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Model:
    """A LLaMA model, from its `config.json`. `weight_bytes` is that of one weight, `kv_bytes` of one cached value."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    weight_bytes: float
    kv_bytes: float

    @property
    def head(self) -> int:
        """Weights of the output layer, which only the last token of a prompt passes."""
        return self.hidden * self.vocabulary

    @property
    def weights(self) -> int:
        """Weights that a decoded token passes; the input embedding is a gather."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate) + self.head

    def decode_bytes(self, batch: int, context: float) -> float:
        """Bytes that one step reads and writes, with `context` tokens in each of `batch` sequences."""
        cache = 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes
        return self.weights * self.weight_bytes + cache * batch * (context + 1)

    def decode_flops(self, batch: int, context: float) -> float:
        """Operations of one step."""
        return 2 * self.weights * batch + 4 * self.layers * self.heads * self.head_dim * batch * context

    def prefill_bytes(self, new: float) -> float:
        """Bytes of a prompt's pass: all weights once, and its own cache once written and once read."""
        cache = 2 * self.layers * self.kv_heads * self.head_dim * self.kv_bytes
        return self.weights * self.weight_bytes + 2 * cache * new

    def prefill_flops(self, new: float, cached: float = 0) -> float:
        """Operations of `new` prompt tokens after `cached` ones; only the last passes the output layer."""
        attention = 4 * self.layers * self.heads * self.head_dim * (new * cached + new * new / 2)
        return 2 * (self.weights - self.head) * new + 2 * self.head + attention


def read_model(folder: Path, dtype: str) -> Model:
    """The model of a checkpoint that is served in `dtype`. Raises BenchmarkError for one that is not LLaMA-like.

    Quantized weights count the bytes that are stored, scales included: all there is on disk over the weights.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        shape = {
            "layers": config["num_hidden_layers"],
            "hidden": config["hidden_size"],
            "heads": config["num_attention_heads"],
            "kv_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
            "head_dim": config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            "intermediate": config["intermediate_size"],
            "vocabulary": config["vocab_size"],
        }
    except (OSError, ValueError, KeyError) as error:
        raise BenchmarkError(f"{folder}: not a checkpoint whose roofline is known: {error!r}") from error
    model = Model(**shape, weight_bytes=BYTES[dtype], kv_bytes=BYTES[dtype])
    if "quantization_config" not in config:
        return model
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    gathered = 0 if config.get("tie_word_embeddings") else model.head * BYTES[dtype]
    return Model(**shape, weight_bytes=(stored - gathered) / model.weights, kv_bytes=BYTES[dtype])


def ceilings(found: Recipe) -> dict[str, Any]:
    """Read bandwidth and GEMM rate, measured with the engine's own threads and libraries in a process of its own."""
    threads = len(found.env["VLLM_CPU_OMP_THREADS_BIND"].replace("|", ",").split(",")) if found.on_cpu else 0
    shapes = read_model(Path(found.model), found.dtype)
    words = [found.dtype, str(threads), str(shapes.hidden), str(shapes.intermediate)]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ceilings", *words]
    try:
        done = subprocess.run(
            command, env={**os.environ, **found.env}, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
    except subprocess.CalledProcessError as error:
        raise BenchmarkError(f"the ceilings could not be measured: {error}") from error
    return dict(json.loads(done.stdout.splitlines()[-1]))


def finite(row: Mapping[str, float]) -> dict[str, float | None]:
    """For JSON, which has no infinity."""
    return {key: value if math.isfinite(value) else None for key, value in row.items()}


def limit_seconds(moved: float, operations: float, limits: Mapping[str, Any]) -> float:
    """The least time to move so many bytes and do so many operations, each at its ceiling, at once."""
    bandwidth, gemm = float(limits["bandwidth_gb_s"]), float(limits["gemm_gflop_s"])
    return max(moved / bandwidth, operations / gemm) / 1e9


def share(moved: float, operations: float, limits: Mapping[str, Any], seconds: float) -> dict[str, float]:
    """How near work that took `seconds` came to the ceilings, and where it lies under the roof."""
    return {
        "floor_ms": 1000 * limit_seconds(moved, operations, limits),
        "mbu": moved / seconds / limits["bandwidth_gb_s"] / 1e9,
        "mfu": operations / seconds / limits["gemm_gflop_s"] / 1e9,
        "flop_per_byte": operations / moved,
        "gflop_s": operations / seconds / 1e9,
    }


def utilization(
    model: Model, limits: Mapping[str, Any], batch: int, context: float, seconds: float
) -> dict[str, float]:
    """A decode step of `batch` sequences that took `seconds`."""
    moved, operations = model.decode_bytes(batch, context), model.decode_flops(batch, context)
    return {"step_ms": 1000 * seconds} | share(moved, operations, limits, seconds)


def prefill_utilization(model: Model, limits: Mapping[str, Any], prompt: float, seconds: float) -> dict[str, float]:
    """The prefill of one prompt that took `seconds`."""
    moved, operations = model.prefill_bytes(prompt), model.prefill_flops(prompt)
    return {"step_ms": 1000 * seconds} | share(moved, operations, limits, seconds)

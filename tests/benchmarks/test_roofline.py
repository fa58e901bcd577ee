"""The roofline's formulas against numbers counted by hand, and the ceilings against nonsense."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.console import BenchmarkError
from benchmarks.datasheet import datasheet_gb_s
from benchmarks.roofline import Model, read_model, utilization

SMOLLM = {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
ROOT = Path(__file__).parents[2]
# One layer of width 2 with one head of 2, feed-forward 3, vocabulary 5: q, k, v, o 16, feed-forward 18, output 10.
TINY = Model(1, 2, 1, 1, 2, 3, 5, weight_bytes=2, kv_bytes=2)


def checkpoint(folder: Path, **changes: object) -> Path:
    (folder / "config.json").write_text(json.dumps(SMOLLM | changes))
    return folder


def test_the_demos_weights_are_its_parameters_without_norms(tmp_path: Path) -> None:
    """SmolLM2-135M has 134,515,008 parameters; 61 norms of 576 are none of a matrix's."""
    assert read_model(checkpoint(tmp_path), "bfloat16").weights == 134_515_008 - 61 * 576


def test_bytes_and_operations_counted_by_hand() -> None:
    assert TINY.weights == 44
    # 44 weights of 2 bytes; keys and values of 2 x 2 bytes each for 3 x (4 + 1) tokens.
    assert TINY.decode_bytes(3, 4) == 88 + 3 * 5 * 8
    # 2 x 44 x 3, and for each of 12 cached tokens a score and a weighted sum over 2 values: 8.
    assert TINY.decode_flops(3, 4) == 264 + 12 * 8
    # Five tokens through 34 weights, one through 10; 5 x 4 + 12.5 pairs of tokens.
    assert TINY.prefill_flops(5, 4) == 2 * 34 * 5 + 20 + 8 * 32.5


def test_quantized_weights_count_what_is_stored(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, quantization_config={"bits": 4}, tie_word_embeddings=False)
    (folder / "model.safetensors").write_bytes(b"x" * 60_000_000)
    model = read_model(folder, "bfloat16")
    assert model.decode_bytes(0, 0) == pytest.approx(60_000_000 - 2 * 576 * 49152)


def test_the_longer_of_reading_and_computing_is_the_floor() -> None:
    limits = {"bandwidth_gb_s": 88e-9, "gemm_gflop_s": 88e-9}  # 88 bytes/s, 88 operations/s
    small = utilization(TINY, limits, 1, 0, 4.0)
    assert small["floor_ms"] == pytest.approx(1000 * 96 / 88) and small["mbu"] == pytest.approx(96 / 88 / 4)
    large = utilization(TINY, limits, 10, 0, 20.0)
    assert large["floor_ms"] == pytest.approx(10_000) and large["mfu"] == pytest.approx(0.5)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BenchmarkError, match="num_hidden_layers"):
        read_model(tmp_path, "float16")


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("NVIDIA A800-SXM4-80GB", 79.3, 2039),
        ("NVIDIA A100-SXM4-40GB", 39.4, 1555),
        ("NVIDIA H100 NVL", 93.1, None),  # another card than the one of 80 GB
        ("NVIDIA GeForce RTX 4090", 23.5, 1008),
        ("NVIDIA B200", 178.0, None),
    ],
)
def test_a_datasheet_is_found_by_name_and_memory(name: str, gib: float, expected: float | None) -> None:
    assert datasheet_gb_s({"device_name": name, "device_memory": gib * 1024**3}) == expected
    assert datasheet_gb_s({}) is None


def test_ceilings_are_measured() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ceilings", "float32", "1", "64", "128"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["threads"], found["dtype"]) == (1, "float32")
    assert 0.5 < found["bandwidth_gb_s"] < 5_000 and 0.5 < found["gemm_gflop_s"] < 2_000_000

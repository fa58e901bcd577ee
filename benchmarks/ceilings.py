"""Read bandwidth and GEMM rate of this machine, in a process of its own: the one line on stdout is a JSON object.

    python -m benchmarks.ceilings DTYPE THREADS HIDDEN INTERMEDIATE

Each is the best of several passes, as the ceiling is what the machine can do and not what it did on average.
"""

import json
import sys
import time
from collections.abc import Callable

import torch

READ_BYTES = 512 * 1024**2
SQUARE = 2048
# Rows of the model-shaped product: a batch of 32 sequences.
ROWS = 32
SECONDS = 2.0


def best(work: Callable[[], object], device: str) -> float:
    """Seconds of the fastest of as many passes as fit into SECONDS."""

    def once() -> float:
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    once()
    end = time.perf_counter() + SECONDS
    times = [once()]
    while time.perf_counter() < end:
        times.append(once())
    return min(times)


def gemm(rows: int, inner: int, columns: int, dtype: torch.dtype, device: str) -> float:
    """GFLOP/s of (rows x inner) times (inner x columns), the weights laid out as a linear layer has them."""
    left = torch.randn(rows, inner, device=device).to(dtype)
    weight = torch.randn(columns, inner, device=device).to(dtype)
    seconds = best(lambda: torch.nn.functional.linear(left, weight), device)
    return 2 * rows * inner * columns / seconds / 1e9


def main() -> None:
    name, threads, hidden, intermediate = sys.argv[1], *map(int, sys.argv[2:])
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, name)
    numbers = torch.ones(READ_BYTES // 4, device=device)
    with torch.inference_mode():
        result: dict[str, object] = {
            "dtype": name,
            "device": device,
            "threads": torch.get_num_threads(),
            "bandwidth_gb_s": READ_BYTES / best(numbers.sum, device) / 1e9,
            "gemm_gflop_s": gemm(SQUARE, SQUARE, SQUARE, dtype, device),
            "gemm_model_gflop_s": gemm(ROWS, hidden, intermediate, dtype, device),
        }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        result |= {"device_name": properties.name, "device_memory": properties.total_memory}
    print(json.dumps(result))


if __name__ == "__main__":
    main()

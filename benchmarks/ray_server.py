"""Ray Serve LLM on one machine, as its own documentation starts it, until SIGTERM; it leaves no process behind.

    python -m benchmarks.ray_server --model FOLDER --port 8001 --cpu

One replica behind `build_openai_app`'s ingress. Nothing is set but what it needs to run at all: on a CPU that is
`accelerator_config`, a KV cache of a size (--kv-cache-memory-bytes) and more of Ray's logical CPUs than small machines
have: one each for the replica, its engine's worker and two ingress replicas.
"""

import argparse
import ctypes
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import psutil

from benchmarks.systems import SERVED_NAME

PR_SET_CHILD_SUBREAPER = 36
LOGICAL_CPUS = 4
END_TIMEOUT_S = 10
# No statistics to Ray's makers; the log of each request off, as it is for the others.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAYLLM_ENABLE_REQUEST_PROMPT_LOGS": "0"}


class Stopped(Exception):
    """SIGTERM came."""


def stop(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


@contextmanager
def no_orphans() -> Iterator[None]:
    """Whatever is started within, by children too, becomes this process's when its parent dies, and dies at the end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        while left := psutil.Process().children(recursive=True):
            for process in left:
                process.kill()
            psutil.wait_procs(left, END_TIMEOUT_S)


def llm_config(model: str, *, on_cpu: bool, kv_cache_bytes: int | None) -> dict[str, Any]:
    """What `LLMConfig` takes: the checkpoint, and what it needs where there is no GPU."""
    config: dict[str, Any] = {"model_loading_config": {"model_id": SERVED_NAME, "model_source": model}}
    if kv_cache_bytes:
        config["engine_kwargs"] = {"kv_cache_memory_bytes": kv_cache_bytes}
    if on_cpu:
        config["accelerator_config"] = {"kind": "cpu"}
    return config


def serve(args: argparse.Namespace) -> None:
    """Start Ray and the application, and wait. Only SIGTERM ends it, by Stopped."""
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: sockets lie in it
    cpus = max(LOGICAL_CPUS, os.cpu_count() or 1)
    try:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=True, _temp_dir=folder)
        serve.start(http_options={"host": "127.0.0.1", "port": args.port})
        config = llm_config(args.model, on_cpu=args.cpu, kv_cache_bytes=args.kv_cache_memory_bytes)
        serve.run(build_openai_app({"llm_configs": [LLMConfig(**config)]}))
        threading.Event().wait()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--cpu", action="store_true", help="serve without a GPU")
    parser.add_argument("--kv-cache-memory-bytes", type=int, metavar="BYTES")
    args = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    signal.signal(signal.SIGTERM, stop)
    try:
        with no_orphans():
            serve(args)
    except Stopped:
        pass
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

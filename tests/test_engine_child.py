"""A process of the engine that ends takes its workers with it, also one that misses the signal to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import multiprocessing, signal, sys, time
from serving import engine_child, parent_death

def worker(ready):
    # vLLM's worker raises SystemExit from its handler; where that hits a destructor it is lost, once and for all.
    signal.signal(signal.SIGTERM, lambda *_: None)
    ready.set()
    while True:
        time.sleep(1)

def engine_core():
    if sys.argv[1] == "spawn":
        parent_death.register()
    context = multiprocessing.get_context(sys.argv[1])
    ready = context.Event()
    context.Process(target=worker, args=(ready,), daemon=True).start()
    ready.wait()
    raise SystemExit(7)

if __name__ == "__main__":
    if sys.argv[1] == "fork":
        engine_child.in_every_child(lambda: None)
    core = multiprocessing.get_context(sys.argv[1]).Process(target=engine_core)
    core.start()
    core.join(30)
    print(core.exitcode)
    core.kill()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_worker_that_misses_sigterm_does_not_keep_the_engine_core(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    env = {**os.environ, "VLLM_LOGGING_LEVEL": "CRITICAL"}
    words = [sys.executable, program, method]
    run = subprocess.run(words, env=env, capture_output=True, text=True, timeout=90, check=False)
    assert (run.stdout, run.stderr) == ("7\n", "")

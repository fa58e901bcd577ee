"""Become the launcher's server without the guard: the same process, arguments and environment, less `--middleware`.

    python -m benchmarks.unguarded PORT NAME [MODEL]

It has no keys, no routes closed and no limits. Only benchmarks/guard_cost_engine.py starts it.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence

from benchmarks.systems import Recipe, recipe

GUARD = ("--middleware", "serving.guard.Guard")


def without_guard(args: Sequence[str]) -> list[str]:
    """vLLM's arguments but for the guard's two words. Raises ValueError where there is no guard."""
    place = args.index(GUARD[1])
    if args[place - 1] != GUARD[0]:
        raise ValueError(f"{GUARD[1]} does not follow {GUARD[0]}")
    return [*args[: place - 1], *args[place + 1 :]]


def job(found: Recipe, port: str, name: str, socket_fd: int) -> dict[str, object]:
    """What serving/job.py takes."""
    return {
        "args": [*without_guard(found.args), "--served-model-name", name],
        "socket_fd": socket_fd,
        "url": f"http://127.0.0.1:{port}",
        "banner": "",
        "engine_log": None,
        "start_timeout": 600,
        "drain_timeout": 30,
        "drain_delay": 0,
        "api_server_count": 1,
    }


def main(port: str, name: str, model: str | None = None) -> None:
    """Do what `xuanyuan serve` does at its end."""
    found = recipe(model)
    listening = socket.create_server(("127.0.0.1", int(port)))
    os.set_inheritable(listening.fileno(), True)
    env = {**os.environ, **found.env, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    text = json.dumps(job(found, port, name, listening.fileno()))
    os.execve(sys.executable, [sys.executable, "-P", "-m", "serving.server", text], env)


if __name__ == "__main__":
    main(*sys.argv[1:])

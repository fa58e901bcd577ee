"""Become the launcher's server without the guard: the same process, arguments and environment, less `--middleware`.

    python -m benchmarks.unguarded PORT NAME [MODEL]

It has no keys, no routes closed and no limits. Only benchmarks/guard_cost_engine.py starts it.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence

from benchmarks.systems import recipe

GUARD = ("--middleware", "serving.guard.Guard")


def without_guard(args: Sequence[str]) -> list[str]:
    """vLLM's arguments but for the guard's two words. Raises ValueError where there is no guard."""
    place = args.index(GUARD[1])
    if args[place - 1] != GUARD[0]:
        raise ValueError(f"{GUARD[1]} does not follow {GUARD[0]}")
    return [*args[: place - 1], *args[place + 1 :]]


def main(port: str, name: str, model: str | None = None) -> None:
    """Do what `xuanyuan serve` does at its end: the fields are those of serving/job.py."""
    found = recipe(model)
    listening = socket.create_server(("127.0.0.1", int(port)))
    os.set_inheritable(listening.fileno(), True)
    job = {
        "args": [*without_guard(found.args), "--served-model-name", name],
        "socket_fd": listening.fileno(),
        "url": f"http://127.0.0.1:{port}",
        "banner": "",
        "engine_log": None,
        "start_timeout": 600,
        "drain_timeout": 30,
        "api_server_count": 1,
    }
    env = {**os.environ, **found.env, "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "serving.server", json.dumps(job)], env)


if __name__ == "__main__":
    main(*sys.argv[1:])

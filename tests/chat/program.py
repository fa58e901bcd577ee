"""`xuanyuan chat` as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.chat.pty_terminal import Terminal

COMMAND = [str(Path(sys.executable).with_name("xuanyuan")), "chat"]
CLEAN = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}


def chat(url: str, *arguments: str, stdin: bytes = b"", **environ: str) -> "subprocess.CompletedProcess[bytes]":
    """Run it to its end."""
    command = [*COMMAND, "--url", url, *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env={**CLEAN, **environ}, timeout=60)


def terminal(url: str, *arguments: str, **environ: str) -> Terminal:
    """Start it on a terminal."""
    return Terminal([*COMMAND, "--url", url, *arguments], {**CLEAN, "NO_COLOR": "1", "TERM": "xterm", **environ})

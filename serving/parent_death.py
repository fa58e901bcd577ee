"""Ends the engine's processes with the process that started them, also where they are spawned and not forked.

On Ray they are spawned, so what `engine_child` arranges at a fork does not reach them, and an engine core does not
notice that the copy it works for was killed: it would keep its memory for ever. Nor would it end without its workers.
"""

import ctypes
import multiprocessing
import os
import signal

from serving.engine_child import PR_SET_PDEATHSIG, end_children_at_exit


def register() -> None:
    """vLLM calls this in each of its processes (entry point `vllm.general_plugins`). Does nothing in the first one."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:
        # It died before the kernel was told.
        os._exit(1)
    end_children_at_exit()

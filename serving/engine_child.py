"""What each of the engine's processes does first and last, so that none outlives its parent and none waits for a child.

First it leaves the terminal to the launcher and ties its life to its parent's; last it ends what it started itself.
"""

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing import util

# prctl(2): the signal to get when the parent dies.
PR_SET_PDEATHSIG = 1


def in_every_child(redirect_output: Callable[[], None]) -> None:
    """Arrange it for all forks from now on.

    The terminal's Ctrl-C goes to a whole process group, and a worker that got it would drop the requests in flight: so
    each child gets a group of its own, and the launcher alone answers signals. The engine core does not notice when the
    launcher is killed (SIGKILL, out of memory) and would keep its memory for ever: so the kernel ends it.
    """
    libc = ctypes.CDLL(None)

    def begin() -> None:
        os.setpgid(0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        redirect_output()

    os.register_at_fork(after_in_child=begin)
    # multiprocessing forgets what is to be done at exit when it forks, and then calls this.
    util.register_after_fork(in_every_child, lambda _: end_children_at_exit())


def end_children_at_exit() -> None:
    """Let no child keep this process from ending.

    When an engine core fails to start, multiprocessing asks the worker to end, once, and waits for it without limit. A
    worker may miss that: vLLM's handler of SIGTERM raises SystemExit, which is lost where it interrupts a destructor
    (seen after a failed compilation: the launcher would have waited until its start_timeout).
    """
    util.Finalize(None, end_children, exitpriority=0)


def end_children() -> None:
    """Ask each child to end, and kill those that do not within five seconds, as vLLM does elsewhere."""
    if children := multiprocessing.active_children():
        from vllm.v1.utils import shutdown

        shutdown(children)

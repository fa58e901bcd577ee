"""What every process forked by the engine does first: leave the terminal to the launcher, and die with its parent."""

import ctypes
import os
import signal
from collections.abc import Callable

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

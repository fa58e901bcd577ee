# The command is a module of its own, so that `python -m benchmarks.soak` runs it too.
from benchmarks.soak import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]

# The command is a module of its own, so that `python -m benchmarks.overload` runs it too.
from benchmarks.overload import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]

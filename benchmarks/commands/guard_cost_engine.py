# The command is a module of its own, so that `python -m benchmarks.guard_cost_engine` runs it too.
from benchmarks.guard_cost_engine import __doc__, add_arguments, run

__all__ = ["__doc__", "add_arguments", "run"]

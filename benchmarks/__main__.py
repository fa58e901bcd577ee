"""The command line of the load harness: find the command, parse its arguments, run it."""

import importlib
import os
import shlex
import signal
import sys

from benchmarks.console import EXIT_CONFIGURATION, EXIT_FAILED, BenchmarkError, Parser

# Each is a module of benchmarks.commands. Only the one asked for is imported.
COMMANDS = {
    "quick": "the launcher against the plain server in at most 10 minutes, with a report",
    "full": "everything, block by block: it goes on where it was cut off",
    "compare": "systems against each other on one checkpoint, with intervals and the noise beside them",
    "startup": "seconds from a server's start to its first token, and its memory",
    "report": "report.html and report.json from a run's blocks",
    "roofline": "what this machine can do at most, and the least time of a decode step",
    "throughput": "tokens/s of the engine alone, offline, without HTTP",
    "quality": "what quantization costs: perplexity, agreement, length and right answers, with limits",
    "load": "send a load to any OpenAI-compatible server and measure what comes back",
    "capacity": "how many users a server serves within an SLO",
    "overload": "what a server still gets done when far more is asked of it than it can do",
    "soak": "whether memory, descriptors and latency stay where they are under mixed load for long",
    "guard_cost_engine": "what the guard costs on the real engine: with and without it, interleaved",
    "oracle": "whether this harness and `vllm bench serve` measure the same",
    "client": "what the load generator itself costs, against a server that costs next to nothing",
}


def usage() -> str:
    """The help of `python -m benchmarks` itself."""
    rows = "\n".join(f"  {name:17} {text}" for name, text in COMMANDS.items())
    return (
        f"usage: python -m benchmarks COMMAND …\n\n{rows}\n\n"
        "python -m benchmarks COMMAND --help says more. The last line on stdout is one JSON object."
    )


def main(argv: list[str]) -> int:
    """Run one command and return its exit code: 0, 2 for bad arguments, 3 for a failure, 130 after Ctrl-C."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"benchmarks: no command {name!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return EXIT_CONFIGURATION
    command = importlib.import_module(f"benchmarks.commands.{name}")
    parser = Parser(prog=f"python -m benchmarks {name}", description=command.__doc__)
    command.add_arguments(parser)
    parser.set_defaults(command=f"python -m benchmarks {shlex.join(argv)}")
    parser.add_argument("--json", action="store_true", help="print the JSON object alone")
    try:
        code: int = command.run(parser.parse_args(rest))
    except BenchmarkError as error:
        print(f"benchmarks {name}: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130
    return code


def entry() -> None:
    """What `python -m benchmarks` does. SIGTERM ends it like Ctrl-C, so that it leaves no server behind.

    As SIGINT and not as an exception of its own: asyncio turns that into a cancelled task, where an exception that is
    raised between any two instructions may be in a callback that swallows it.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a script's background job is born ignoring it
    signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read this, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    entry()

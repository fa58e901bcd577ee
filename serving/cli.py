"""The command line: find the command, parse its arguments, turn expected failures into one line and an exit code."""

import argparse
import importlib
import os
import sys
from typing import NoReturn

from serving import __version__
from serving.errors import EXIT_CONFIGURATION, EXIT_FAILED_TO_START, ServingError, near

EXIT_INTERRUPTED = 130
# Each is a module of serving.commands with add_arguments(parser) and run(args). Only the one asked for is imported.
COMMANDS = {
    "serve": "start the server",
    "chat": "talk to a running server in the terminal",
    "batch": "answer a file of requests with a running server",
    "plan": "what fits on which hardware, as flags and Helm values",
    "models": "the checkpoints known by name",
    "fetch": "download a checkpoint and check it, without starting anything",
    "doctor": "check this box and the installation",
    "config": "every setting with its value and where it came from",
    "keys": "make, list, revoke and rotate API keys",
    "ray-config": "the YAML of `serve deploy` and KubeRay",
    "render": "show the prompt and its tokens for a conversation",
}


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and offers the near name of an unknown flag."""

    def __init__(self, **options: object) -> None:
        super().__init__(allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print one line and leave with the exit code for bad configuration."""
        unknown = message.removeprefix("unrecognized arguments: ") if message.startswith("unrecognized") else ""
        word = unknown.split("=")[0].strip()
        hint = near(word.split()[0], list(self._option_string_actions)) if word else ""
        self.exit(EXIT_CONFIGURATION, f"{self.prog}: {message}{hint}; see {self.prog} --help\n")


def usage() -> str:
    """The help of `xuanyuan` itself."""
    rows = "\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())
    about = "Serve the XuanYuan-6B family of Chinese finance LLMs."
    return f"usage: xuanyuan COMMAND …\n\n{about}\n\n{rows}\n\nxuanyuan COMMAND --help says more."


def run(argv: list[str]) -> int:
    """Run one command and return its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        print(f"xuanyuan {__version__}")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        print(f"xuanyuan: no command {name!r}{near(name, list(COMMANDS))}; see xuanyuan --help", file=sys.stderr)
        return EXIT_CONFIGURATION
    command = importlib.import_module(f"serving.commands.{name.replace('-', '_')}")
    parser = Parser(
        prog=f"xuanyuan {name}", description=command.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_arguments(parser)
    ours, passed = split(rest)
    args = parser.parse_args(ours)
    if passed and name != "serve":
        parser.error(f"words after -- go to vLLM, which only `xuanyuan serve` starts: {' '.join(passed)}")
    args.passed = passed
    result: int = command.run(args)
    return result


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """The words before a lone `--`, and those after it, which go to vLLM."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def open_closed_streams() -> None:
    """A standard stream that the caller closed becomes /dev/null: its number must not go to a file or a socket."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is this one, for those below are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def forget_output() -> None:
    """What is still waiting to be written to standard output goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> NoReturn:
    """Entry point of the console script."""
    open_closed_streams()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except ServingError as error:
        print(f"xuanyuan: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`xuanyuan models | head`): nothing is wrong, and nothing more can be said.
        forget_output()
        code = 0
    except OSError as error:
        forget_output()
        print(f"xuanyuan: {error}", file=sys.stderr)
        code = EXIT_FAILED_TO_START
    sys.exit(code)

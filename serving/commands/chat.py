"""`xuanyuan chat`: talk to a running server from a terminal, or ask it one question."""

import argparse
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from serving.chat import Conversation, clean, once
from serving.chat_client import Server
from serving.chat_terminal import interact, say
from serving.errors import ConfigError, ServingError

SAMPLING = ("temperature", "top_p", "max_tokens", "seed")
KEY_VARIABLES = ("XUANYUAN_API_KEY", "OPENAI_API_KEY")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "message",
        nargs="?",
        metavar="MESSAGE",
        help="ask this one question; else all of standard input, and in a terminal a conversation (/help)",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument("--model", metavar="NAME", help="default: the first that the server lists")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help=f"holds the key; else ${', then $'.join(KEY_VARIABLES)}"
    )
    parser.add_argument("--system", default="", metavar="TEXT", help="system message")
    sampling = parser.add_argument_group("sampling", "What is not given is left to the server.")
    sampling.add_argument("--temperature", type=float, metavar="T")
    sampling.add_argument("--top-p", type=float, metavar="P")
    sampling.add_argument("--max-tokens", type=int, metavar="N")
    sampling.add_argument("--seed", type=int, metavar="N")


def run(args: argparse.Namespace) -> int:
    """Chat, or ask one question. Exit codes: 0; 2 configuration; 3 no server, refused or cut off; 130 after Ctrl-C."""
    tolerate_any_text()
    server = Server(args.url, api_key(args.api_key_file, os.environ))
    interactive = args.message is None and sys.stdin.isatty()
    question = "" if interactive else clean(sys.stdin.read() if args.message is None else args.message)
    if not interactive and not question:
        raise ConfigError("the question is empty: give it as MESSAGE, on standard input, or start chat in a terminal")
    name, context = choose_model(server, args.model)
    options = {key: value for key in SAMPLING if (value := getattr(args, key)) is not None}
    conversation = Conversation({"model": name, **options}, clean(args.system))
    if not interactive:
        return once(server, conversation, question)
    about = f", context {context:,} tokens" if context else ""
    say(f"{name} at {server.url}{about}. /help lists the commands, EXIT!! leaves.")
    interact(server, conversation)
    return 0


def choose_model(server: Server, wanted: str | None) -> tuple[str, int | None]:
    """The model's name, and its context in tokens where known. An unlisted name is left for the server to judge."""
    models = server.models()
    if wanted:
        return wanted, next((model.context for model in models if model.name == wanted), None)
    if not models:
        raise ServingError(f"{server.url} lists no model: name one with --model")
    return models[0].name, models[0].context


def api_key(file: Path | None, environ: Mapping[str, str]) -> str | None:
    """The key: the file's text, else the first environment variable that is set. The error never shows it."""
    if file is None:
        origin, key = next(((name, environ[name]) for name in KEY_VARIABLES if environ.get(name)), ("", ""))
    else:
        try:
            origin, key = f"--api-key-file {file}", file.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise ConfigError(f"--api-key-file {file}: {error.strerror}") from None
    # What an HTTP header can carry.
    if origin and not (key and key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(f"{origin}: expected one key in printable ASCII")
    return key or None


def tolerate_any_text() -> None:
    """Neither a stray byte that is typed nor a character that the terminal lacks ends a conversation."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

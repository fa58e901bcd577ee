"""`xuanyuan batch`: answer a file of requests in OpenAI's batch format, with a running server.

  xuanyuan serve &
  xuanyuan batch in.jsonl -o out.jsonl

Each answer is a line of the output as soon as it comes, in no order. Interrupted, run the same command again: what is
answered is not asked for again, what failed is.
"""

import argparse
import os
from pathlib import Path

from serving.batch import Batch
from serving.batch_file import Item, answered, read_batch
from serving.chat_client import Server
from serving.commands.chat import KEY_VARIABLES, api_key
from serving.errors import ConfigError
from serving.log import log

EXIT_SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="IN.jsonl", help="a request a line")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT.jsonl", required=True, help="an answer a line")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: %(default)s)")
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help=f"holds the key; else ${', then $'.join(KEY_VARIABLES)}"
    )
    parser.add_argument("--concurrency", type=int, default=32, metavar="N", help="requests at a time (%(default)s)")


def run(args: argparse.Namespace) -> int:
    """Exit codes: 0 all answered; 1 some failed, each with its error in the output; 2 bad input; 3 no server."""
    if args.concurrency < 1:
        raise ConfigError(f"--concurrency={args.concurrency}: expected a number of 1 or more")
    items = read_batch(args.input)
    done = answered(args.output, items)
    left = [item for item in items if item.custom_id not in done]
    server = Server(args.url, api_key(args.api_key_file, os.environ))
    if not left:
        log(f"All {len(items):,} are answered in {args.output}.")
        return 0
    server.models()
    if done:
        log(f"{len(done):,} were answered before.")
    failed = ask(server, left, args, len(done))
    return EXIT_SOME_FAILED if failed else 0


def ask(server: Server, items: list[Item], args: argparse.Namespace, done: int) -> int:
    """Ask, and append each answer to the output. Returns how many failed. Raises ConfigError, ServingError."""
    try:
        output = args.output.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"-o {args.output}: cannot be written: {error.strerror}") from None
    with output:

        def write(line: str) -> None:
            output.write(line)
            output.flush()

        return Batch(server.url, server.api_key, server.opener, log).run(items, args.concurrency, write, done)

"""`xuanyuan render`: the prompt that a conversation becomes, its tokens and their ids. Control tokens are marked.

Reads the messages from standard input: a JSON list of {"role", "content"}, or an object with such a list as "messages".
`--renderer ours` is what `xuanyuan serve` does. `stock` is what vLLM does with the same template as a Jinja file: it
shows what typed control tokens do there.
"""

import argparse
import io
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.errors import ConfigError
from serving.terminal import paint, printable

if TYPE_CHECKING:
    from chat_template.settings import ChatSettings

TEMPLATES = ("6b", "13b", "70b")


@dataclass(frozen=True)
class Shown:
    """What is printed: the prompt's text, its ids, and where in them control tokens are. The keys of `--json`."""

    prompt: str
    token_ids: list[int]
    control_positions: list[int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--template", choices=TEMPLATES, required=True, help="the family's prompt form")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", required=True, help="the checkpoint's folder")
    parser.add_argument("--renderer", choices=("ours", "stock"), default="ours", help="default: %(default)s")
    parser.add_argument(
        "--json", action="store_true", help='{"prompt": str, "token_ids": [int], "control_positions": [int]}'
    )


def run(args: argparse.Namespace) -> int:
    """Render the conversation on standard input. Exit code 0. Raises ConfigError."""
    from chat_template.errors import ConversationError, TemplateMismatchError
    from chat_template.settings import ChatSettings

    messages = read_messages(sys.stdin.buffer.read())
    tokenizer = load_tokenizer(args.tokenizer)
    render = ours if args.renderer == "ours" else stock
    try:
        shown = render(tokenizer, ChatSettings(args.template), messages)
    except ConversationError as error:
        raise ConfigError(f"standard input: {error}") from error
    except TemplateMismatchError as error:
        raise ConfigError(f"--tokenizer={args.tokenizer}: {error}") from error
    if args.json:
        print(json.dumps(asdict(shown)))
    else:
        show(shown, tokenizer.convert_ids_to_tokens(shown.token_ids))
    return 0


def read_messages(text: bytes) -> list[dict[str, Any]]:
    """The messages in a JSON text. Raises ConfigError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"standard input: expected JSON, a list of messages: {error}") from error
    messages = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ConfigError('standard input: expected a list of {"role", "content"}, or an object with such "messages"')
    return messages


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a checkpoint's folder. Raises ConfigError."""
    if not folder.is_dir():
        raise ConfigError(f"--tokenizer={folder}: expected a folder with a tokenizer in it")
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--tokenizer={folder}: no usable tokenizer: {' '.join(str(error).split())}") from error


def ours(tokenizer: Any, settings: "ChatSettings", messages: Sequence[Mapping[str, Any]]) -> Shown:
    """As our renderer does it."""
    from chat_template.encode import ConversationEncoder

    rendered = ConversationEncoder(tokenizer, settings).encode_messages(messages)
    return Shown(rendered.prompt, rendered.token_ids, rendered.control_positions)


def stock(tokenizer: Any, settings: "ChatSettings", messages: Sequence[Mapping[str, Any]]) -> Shown:
    """As vLLM does it with the template's file: one string, and then the tokenizer on it, without adding BOS."""
    from chat_template.conversation import read_conversation
    from chat_template.layout import jinja_file

    conversation = read_conversation(messages, settings)
    plain = [{"role": "system", "content": conversation.system}] if conversation.system else []
    plain += [{"role": turn.role, "content": turn.text} for turn in conversation.turns]
    prompt = tokenizer.apply_chat_template(
        plain,
        chat_template=jinja_file(settings.template).read_text(encoding="utf-8"),
        tokenize=False,
        add_generation_prompt=True,
    )
    token_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    controls = [at for at, number in enumerate(token_ids) if number in tokenizer.added_tokens_decoder]
    return Shown(prompt, token_ids, controls)


def show(shown: Shown, tokens: Sequence[str]) -> None:
    """Print for people: the prompt, the tokens with control tokens in brackets, the ids."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    controls = set(shown.control_positions)
    print("prompt ", printable(json.dumps(shown.prompt, ensure_ascii=False)))
    print("tokens ", " ".join(token_text(token, at in controls) for at, token in enumerate(tokens)))
    print("ids    ", " ".join(map(str, shown.token_ids)))
    print(f"{len(tokens)} tokens, {len(controls)} of them control tokens")


def token_text(token: str, control: bool) -> str:
    """One token: ordinary ones in green, control tokens bracketed and in red."""
    text = printable(token).replace("\n", "␊").replace("\t", "␉")
    return paint(f"⟦{text}⟧", "red", sys.stdout) if control else paint(text, "green", sys.stdout)

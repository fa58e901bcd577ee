"""The interactive way of chatting: a prompt, the family's demo's EXIT!! and CLEAR!!, and a few commands."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from serving.chat import Conversation, ask, clean, show
from serving.chat_client import Server
from serving.errors import near
from serving.terminal import paint, printable

HELP = """\
/system TEXT   set the system message from here on; without TEXT, take it away
/save FILE     write the messages to FILE as JSON; /save! FILE overwrites it
/help          this list
CLEAR!!        start over
EXIT!!         leave, as does Ctrl-D
Ctrl-C         stop the answer, and keep what has come
A line that starts with a space is sent, whatever it looks like."""


def say(text: str) -> None:
    """A line of ours, not of the model."""
    print(paint(text, "dim", sys.stdout), flush=True)


def complain(text: str) -> None:
    """A line about what went wrong. Parts of it may come from the server."""
    print(paint(printable(text), "red", sys.stdout), flush=True)


def set_system(conversation: Conversation, text: str) -> None:
    conversation.system = clean(text)
    say("system message set" if conversation.system else "no system message")


def save(conversation: Conversation, name: str, mode: str = "x") -> None:
    """Write the messages to the file `name`: a list of {role, content}, which `xuanyuan render` reads."""
    if not name:
        return complain("/save needs the name of a file")
    path = Path(name).expanduser()
    try:
        with path.open(mode, encoding="utf-8") as file:
            json.dump(conversation.messages(), file, ensure_ascii=False, indent=2)
            file.write("\n")
    except FileExistsError:
        return complain(f"{path} exists: /save! {name} overwrites it")
    except OSError as error:
        return complain(f"cannot write {path}: {error.strerror}")
    say(f"saved {len(conversation.messages())} messages to {path}")


COMMANDS: Mapping[str, Callable[[Conversation, str], None]] = {
    "/help": lambda conversation, _: say(HELP),
    "/system": set_system,
    "/save": save,
    "/save!": lambda conversation, name: save(conversation, name, "w"),
}


def obey(conversation: Conversation, line: str) -> bool:
    """Do what a command line says. False where the line is none: a path such as /etc/hosts is a message."""
    word, _, rest = line.partition(" ")
    if not re.fullmatch(r"/\w+!?", word):
        return False
    if command := COMMANDS.get(word):
        command(conversation, rest.strip())
    else:
        complain(f"no command {word}{near(word, list(COMMANDS))}; /help lists them")
    return True


def turn(server: Server, conversation: Conversation, question: str) -> None:
    """One question and its answer, then a line about how it went."""
    answer = ask(server, conversation, question, show)
    print()
    if answer.error:
        complain(str(answer.error))
    if answer.text or not answer.error:
        say(f"[{answer.statistics()}]")


def prompt() -> str:
    """The prompt. Between \\x01 and \\x02 is what readline must not count as width."""
    coloured = paint("> ", "bold", sys.stdout)
    return re.sub(r"\x1b\[\d+m", "\x01\\g<0>\x02", coloured)


def interact(server: Server, conversation: Conversation) -> None:
    """Read lines and answer them until EXIT!! or Ctrl-D."""
    import readline  # noqa: F401  gives input() editing and history

    while True:
        try:
            line = input(prompt())
            if line.strip() == "EXIT!!":
                return say("exit....")
            if line.strip() == "CLEAR!!":
                conversation.clear()
                say("clear...")
            elif line.strip() and not obey(conversation, line):
                turn(server, conversation, line)
        except KeyboardInterrupt:
            print()
            say("EXIT!! or Ctrl-D leaves")
        except EOFError:
            return print()

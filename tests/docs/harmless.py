"""Whether a block of commands may be run on the machine that runs the tests. What is not known to be harmless is not.

A page is for people, who mean what they type: it installs units, adds users, starts servers. So nothing is run because
nobody thought of forbidding it: every command must be on a list, and writes only into the folder that it is run in.
"""

import re
from collections.abc import Iterator

from tests.docs.pages import shell_words

HERE_DOCUMENT = re.compile(r"<<'(\w+)'\n.*?^\1$", re.MULTILINE | re.DOTALL)
SEPARATORS = {"|", "&&", "||", ";"}
# Reads, prints, or writes a file that it is given. `serve` only without serving.
COMMANDS = ("models", "plan", "config", "doctor", "keys", "render", "ray-config")
TOOLS = (["cat"], ["echo"], ["export"])
# These ask a server, and nothing else.
CLIENTS = (("curl", "-s"), ("xuanyuan", "chat"), ("xuanyuan", "batch"), ("python", "-m", "benchmarks", "load"))


def objections(code: str, *, with_a_server: bool = False) -> list[str]:
    """The parts of a block for which it may not be run; empty for a harmless one."""
    plain = HERE_DOCUMENT.sub("", code).replace("\\\n", " ")
    if found := re.findall(r"\$\(|`|<\(|(?<!\S)eval\b", re.sub(r"'[^']*'", "", plain)):
        return found
    wrong = []
    for line in plain.splitlines():
        try:
            wrong += [" ".join(words) for words in statements(line) if not is_harmless(words, with_a_server)]
        except ValueError as error:
            wrong.append(f"{line}: {error}")
    return wrong


def statements(line: str) -> Iterator[list[str]]:
    """The simple commands of a line, as words."""
    words: list[str] = []
    for word in shell_words(line):
        if word in SEPARATORS:
            yield words
            words = []
        else:
            words.append(word)
    if words:
        yield words


def is_harmless(words: list[str], with_a_server: bool) -> bool:
    """Whether one simple command is on the lists, and names no place but the folder it is run in."""
    if "&" in words or any(leads_away(word) for word in words):
        return False
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[:1] == ["xuanyuan"] and len(words) > 1:
        looks = words[1] in COMMANDS or "--help" in words or (words[1] == "serve" and "--dry-run" in words)
    else:
        looks = words[:3] == ["python", "-m", "benchmarks"] and words[-1] == "--help"
    asks = with_a_server and (any(tuple(words[: len(each)]) == each for each in CLIENTS) or words[:1] == ["grep"])
    return looks or asks or words[:1] in TOOLS


def leads_away(word: str) -> bool:
    """Whether a word, or what it sets, is a path that leaves the folder."""
    return any(part.startswith(("/", "~", "$")) or ".." in part for part in (word, word.partition("=")[2]))

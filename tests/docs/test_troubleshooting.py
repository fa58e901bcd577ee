"""docs/troubleshooting.md has an entry for every message, and no entry for a message that does not exist."""

import ast
import re
from collections.abc import Iterator

import pytest

from serving import errors
from tests.docs.messages import Message, all_messages, python_messages
from tests.docs.source import HOLE, ROOT, read_modules, texts

PAGE = ROOT / "docs/troubleshooting.md"
# Printed, or raised, and no error that a user meets.
NEWS = {
    "module … has no attribute …": "a slip in this project's own code, found by its tests",
    "compiled for another processor or torch": "caught where it is raised: the model is compiled anew",
    "… were answered before.": "progress of `batch`",
    "All … are answered in ….": "the end of `batch`",
    "… of … replicas run": "progress of a start on Ray",
    "Waiting for resources: …": "asked for with --wait-for-resources",
    "Another process is making the demo checkpoint …: waiting for it …": "progress of a start",
    "… is not in the cache of …: asking … for it …": "progress of a download",
    "Fetching … from …: …, less what is here already": "progress of a download",
    "…: … of weights, whole": "the end of `fetch`",
    "The key of …. It is shown this once and cannot be read back:": "`keys add`",
    "Revoked ….": "`keys revoke`",
    "What follows -- is vLLM's: it reads that when it starts, a dry run does not": "a note of a dry run",
    "ray_address: a dry run asks no cluster; this is what a replica on this machine would get": "a note of a dry run",
    "Ready after … s: …": "the server is up",
    "Draining: … in flight, up to … s. A second signal ends at once.": "a stop",
    "Draining: requests in flight may take … s. A second signal ends at once.": "a stop",
    "Stopped.": "a stop",
    "Stopped before the server was ready.": "a stop",
}


@pytest.fixture(scope="module")
def shown() -> list[Message]:
    """All that can be shown and is an error."""
    return [message for message in all_messages() if message.text not in NEWS]


def entries() -> Iterator[tuple[str, str]]:
    """Every line of a `text` block, with the headings above it."""
    headings: dict[int, str] = {}
    inside = False
    for line in PAGE.read_text().splitlines():
        if found := re.match(r"(##+) (.*)", line):
            level = len(found[1])
            headings = {other: text for other, text in headings.items() if other < level} | {level: found[2]}
        if line.startswith("```"):
            inside = line == "```text"
        elif inside:
            yield line, " / ".join(headings.values())


def test_every_message_has_an_entry(shown: list[Message]) -> None:
    known = {text for text, _ in entries()}
    missing = [f"{message.place}: {message.text}" for message in shown if message.text not in known]
    assert missing == [], "add these lines to a `text` block of docs/troubleshooting.md, or to NEWS here"


def test_every_entry_is_a_message(shown: list[Message]) -> None:
    said = {message.text for message in shown}
    assert [text for text, _ in entries() if text not in said] == [], "no code says this any more"


def test_no_entry_stands_twice() -> None:
    lines = [text for text, _ in entries()]
    assert sorted(lines) == sorted(set(lines))


def test_news_is_said_somewhere() -> None:
    assert NEWS.keys() <= {message.text for message in all_messages()}


def test_exit_codes_are_those_of_the_errors() -> None:
    """Where a heading names an exit code, it is that of each error under it whose class has one."""
    kinds: dict[str, set[str]] = {}
    for message in python_messages():
        kinds.setdefault(message.text, set()).add(message.kind)
    wrong = []
    for text, heading in entries():
        said = re.findall(r"exit code (\d)", heading)[-1:]
        codes = {str(code) for code in map(exit_code, kinds.get(text, ())) if code is not None}
        if said and codes and codes != set(said):
            wrong.append((text, heading, codes))
    assert wrong == []


def exit_code(kind: str) -> int | None:
    """The exit code of an error's class, or that of the name EXIT_…; None where a message has no code of its own."""
    found = getattr(errors, kind, None)
    code = getattr(found, "exit_code", found)
    return code if isinstance(code, int) else None


def test_every_code_of_a_refusal_has_a_heading() -> None:
    """`Refusal(status, "code", …)`: each code that is written out stands in a heading."""
    headings = " ".join(heading for _, heading in entries())
    assert len(found := set(refusal_codes())) > 25
    assert [code for code in found if f"`{code}`" not in headings] == []


def refusal_codes() -> Iterator[str]:
    """The second argument of every Refusal in the source, as far as it is written out."""
    for module in read_modules("serving").values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Refusal" and len(node.args) > 1:
                yield from texts(module, module.function_of(node), node.args[1]) - {HOLE}


def test_the_collector_sees_what_is_raised(shown: list[Message]) -> None:
    """Messages of each kind, as they are known to be shown: a collector that finds nothing would pass all else."""
    said = {message.text for message in shown}
    assert {
        "port=…: expected a number from 0 to 65535",  # an f-string
        "pipeline_parallel_size=…: a stage needs a layer; … takes 1 to … here",  # a part that is chosen
        "the family's prompt has no place for tools",  # a constant
        "This API key has expired.",  # through a function's argument
        "This server is shutting down. Ask again: another one answers.",  # a variable
        "…: is a file; give the folder that holds config.json",  # a function's return
        "values.extraEnv sets … twice",
        "The CPU engine needs libnuma: apt-get install libnuma1",
        "Too many requests: try in … s.",
    } <= said

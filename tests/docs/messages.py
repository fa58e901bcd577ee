"""Every message of an error that this project can show, collected out of its source without running it."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tests.docs.source import HOLE, ROOT, Module, read_modules, texts

PACKAGES = ("serving", "chat_template", "benchmarks")
BASES = ("BaseException", "Exception", "ValueError")
# The argument that holds the text, where it is not the first.
PLACE = {"Refusal": 2}
# How Python's `logging` writes a hole, and how a terminal is told of a colour.
PERCENT = re.compile(r"%[sd]")
COLOUR = re.compile(r"\x1b\[[^m]*m")


@dataclass(frozen=True)
class Message:
    """A text with HOLE for what varies, what it is made for (a class, or a function that prints), and where."""

    text: str
    kind: str
    place: str


@cache
def python_messages() -> list[Message]:
    """Exceptions of our own, exceptions that are raised with a text, and what is printed on the error stream."""
    modules = read_modules(*PACKAGES)
    errors = own_errors(modules)
    found = []
    for module in modules.values():
        for node in ast.walk(module.tree):
            if told := last_words(node) or argument(module, node, errors):
                name, expression = told
                for text in sorted(texts(module, module.function_of(node), expression)):
                    found.append(Message(tidy(text), name, f"{module.path}:{node.lineno}"))
    return [message for message in found if re.search(r"[^\W_]{2}", message.text.replace(HOLE, " "))]


def own_errors(modules: dict[str, Module]) -> set[str]:
    """The names of our exception classes."""
    bases = {
        node.name: [base.id for base in node.bases if isinstance(base, ast.Name)]
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def is_error(name: str) -> bool:
        return name in BASES or any(is_error(base) for base in bases.get(name, ()))

    return {name for name in bases if is_error(name)}


def last_words(node: ast.AST) -> tuple[str, ast.expr] | None:
    """`return EXIT_…, "…"`: an exit code with what is said about the end."""
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        code, words = node.value.elts
        if isinstance(code, ast.Name) and code.id.startswith("EXIT_"):
            return code.id, words
    return None


def argument(module: Module, call: ast.AST, errors: set[str]) -> tuple[str, ast.expr] | None:
    """What a call makes or prints, and the expression of its text; None for what tells nobody anything."""
    if not isinstance(call, ast.Call):
        return None
    name = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    owner = ast.unparse(call.func).rpartition(".")[0]
    place = None
    if name in errors or (isinstance(module.parents.get(call), ast.Raise) and name.endswith(("Error", "Exit"))):
        place = PLACE.get(name, 0)
    elif (name == "log" and module.name.startswith("serving")) or (
        name == "print" and any("stderr" in ast.unparse(word.value) for word in call.keywords)
    ):
        place = 0
    elif (owner, name) == ("self", "exit"):
        place = 1
    elif (owner, name) == ("parser", "error") or (owner == "LOGGER" and name in ("error", "exception", "warning")):
        place = 0
    return (name, call.args[place]) if place is not None and len(call.args) > place else None


def tidy(text: str) -> str:
    """One line, with one HOLE where several would follow each other."""
    line = " ".join(PERCENT.sub(HOLE, COLOUR.sub("", text)).split())
    return re.sub(rf"{HOLE}(\s*{HOLE})+", HOLE, line)


def chart_messages() -> Iterator[Message]:
    """What the Helm chart refuses values with: `fail "…"` and `fail (printf "…" …)`."""
    for path in sorted((ROOT / "helm/xuanyuan/templates").rglob("*")):
        for found in re.finditer(r'fail (?:\(printf )?("(?:[^"\\]|\\.)*")', path.read_text() if path.is_file() else ""):
            text = re.sub(r"%[a-z]", HOLE, str(ast.literal_eval(found[1])))
            yield Message(tidy(text), "fail", str(path.relative_to(ROOT)))


def make_messages() -> Iterator[Message]:
    """What the Makefile stops with: `echo "…"; exit 1`."""
    for found in re.finditer(r'echo "(.*)"; exit 1', (ROOT / "Makefile").read_text()):
        text = re.sub(r"\$\$\(.*?\)(?=:)|\$\([A-Z]+\)", HOLE, found[1])
        yield Message(tidy(text), "make", "Makefile")


def page_messages() -> Iterator[Message]:
    """What the page says is in the way: the texts of its notices, and of an answer that failed."""
    notices = re.search(r"const ORDER = (\[.*?\])", (ROOT / "serving/page/notices.js").read_text())
    assert notices
    english = (ROOT / "serving/page/texts.js").read_text().partition("const zh")[0]
    for name in [*ast.literal_eval(notices[1]), "loadForbidden", "networkError", "cutOff"]:
        found = re.search(rf'^  {name}: "(.*)",$', english, re.MULTILINE)
        assert found, name
        yield Message(tidy(re.sub(r"\{\w+\}", HOLE, found[1])), "page", "serving/page/texts.js")


def all_messages() -> list[Message]:
    """Everything."""
    return [*python_messages(), *chart_messages(), *make_messages(), *page_messages()]

"""The page's files as the guard serves them: what is in them, how they are sent, and that --no-page takes them away."""

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from serving.config import load_config, to_environ
from serving.guard.settings import GuardSettings
from serving.keys import Key, add, digest
from serving.page import NAMES, PATHS, TYPES, load
from tests.guard.conftest import Growth, make_guard
from tests.guard.conftest import counted as counted
from tests.guard.stub import CHAT, Call, Engine, chat

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
FILES = {
    name: asset.content.decode() for name, asset in zip(NAMES, (load()[f"/page/{name}"] for name in NAMES), strict=True)
}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}
# Where a specification is named in a comment, and how SVG is called.
NAMED = {"www.w3.org", "html.spec.whatwg.org"}
# Ways to make HTML, code or cookies out of text.
DANGEROUS = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "srcdoc",
    "createContextualFragment", "setHTML", "cookie", "javascript:", "importScripts", "XMLHttpRequest", "WebSocket",
)  # fmt: skip


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def test_all_of_it_is_under_100_kilobytes() -> None:
    assert sum(len(text.encode()) for text in FILES.values()) < 100_000


@pytest.mark.parametrize("name", NAMES)
def test_no_file_names_another_host(name: str) -> None:
    assert set(re.findall(r"(?:https?:)?//([\w-]+(?:\.[\w-]+)+)", FILES[name])) <= NAMED


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_html_or_code_of_text(name: str) -> None:
    assert [word for word in DANGEROUS if word in SCRIPTS[name]] == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_is_a_file_of_the_page(name: str) -> None:
    imported = re.findall(r"(?:from|import)\s*\(?[\"']([^\"']+)[\"']", SCRIPTS[name])
    assert {f"/page/{path.removeprefix('./')}" for path in imported} <= PATHS.keys()


class Html(HTMLParser):
    """What the policy forbids in a document, and what the document refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.references: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        if tag == "style" or (tag == "script" and "src" not in names):
            self.inline.append(tag)
        self.inline += [name for name in names if name == "style" or name.startswith("on")]
        self.references |= {str(names[name]) for name in ("src", "href") if name in names}


def test_the_document_has_no_inline_script_or_style_and_refers_to_its_own_files() -> None:
    html = Html()
    html.feed(FILES["index.html"])
    assert html.inline == []
    assert {path for path in html.references if not path.startswith("#")} <= PATHS.keys()


def test_style_sheets_load_nothing() -> None:
    assert [
        name for name, text in FILES.items() if name.endswith(".css") and ("url(" in text or "@import" in text)
    ] == []


def test_the_package_takes_every_file_along() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "serving.page" in setup["packages"]
    assert set(setup["package-data"]["serving.page"]) == {f"*.{suffix}" for suffix in TYPES}
    folder = {file.name for file in (ROOT / "serving" / "page").iterdir() if file.is_file()}
    assert folder == {*NAMES, "__init__.py"}


@pytest.mark.parametrize("path", PATHS)
async def test_each_is_served_under_the_strict_policy_and_without_a_cookie(path: str) -> None:
    engine = Engine()
    call = await Call(make_guard(engine), "GET", path).start().done()
    assert (call.status, call.content) == (200, load()[path].content)
    assert call.answer["content-type"] == load()[path].type
    policy = dict(part.split(" ", 1) for part in call.answer["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in call.answer["content-security-policy"]
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert (call.answer["x-content-type-options"], call.answer["referrer-policy"]) == ("nosniff", "no-referrer")
    assert "set-cookie" not in call.answer
    assert engine.scopes == []


async def test_what_the_browser_has_is_not_sent_again() -> None:
    guard = make_guard(Engine())
    first = await Call(guard, "GET", "/").start().done()
    second = await Call(guard, "GET", "/", headers={"if-none-match": first.answer["etag"]}).start().done()
    assert (second.status, second.content) == (304, b"")
    other = await Call(guard, "GET", "/", headers={"if-none-match": '"old"'}).start().done()
    assert other.status == 200


async def test_head_is_get_without_the_body() -> None:
    call = await Call(make_guard(Engine()), "HEAD", "/").start().done()
    assert (call.status, call.content, call.answer["content-length"]) == (
        200,
        b"",
        str(len(FILES["index.html"].encode())),
    )


async def test_the_page_needs_no_key_and_comes_while_the_server_drains(tmp_path: Path) -> None:
    add(tmp_path / "keys.json", Key("a", digest("xy-a")))
    guard = make_guard(Engine(), keys_file=str(tmp_path / "keys.json"))
    guard.context.drain.begin()
    assert (await Call(guard, "GET", "/").start().done()).status == 200
    assert (await Call(guard, "GET", "/page/app.js", client="10.0.0.9").start().done()).status == 200


@pytest.mark.parametrize(
    "path", [*PATHS, "/page/", "/page/app.js/", "/page/../app.js", "/page/__init__.py", "/page/APP.js"]
)
async def test_without_the_page_there_is_no_such_path(path: str) -> None:
    engine = Engine()
    guard = make_guard(engine, page=False)
    assert (await Call(guard, "GET", path).start().done()).status == 404
    assert engine.scopes == []
    assert (await Call(guard, path=CHAT, body=chat()).start().done()).status == 200
    if path not in PATHS:
        assert (await Call(make_guard(engine), "GET", path).start().done()).status == 404


def test_no_page_reaches_the_guard() -> None:
    config = load_config({"page": False}, {}).config
    assert GuardSettings.from_environ(to_environ(config)).page is False
    assert GuardSettings.from_environ(to_environ(load_config({}, {}).config)).page is True


async def test_good_answers_of_the_page_are_neither_logged_nor_counted(
    capsys: pytest.CaptureFixture[str], counted: Growth
) -> None:
    guard = make_guard(Engine(), log_format="json")
    name = "xuanyuan_requests_total"
    ok = {"route": "/status", "key": "anonymous", "code": "200"}
    refused = {"route": "/page/app.js", "key": "-", "code": "405"}
    counted(name, **ok)
    counted(name, **refused)
    for path in ("/", "/page/app.js", "/status"):
        await Call(guard, "GET", path).start().done()
    assert capsys.readouterr().err == ""
    await Call(guard, "POST", "/page/app.js").start().done()
    assert json.loads(capsys.readouterr().err)["status"] == 405
    assert (counted(name, **ok), counted(name, **refused)) == (0, 1)

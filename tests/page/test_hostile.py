"""No text of a model becomes more than text. The page's policy is off in most tests: the drawing alone must hold."""

import json
import time
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.page.conftest import Visit
from tests.page.driver import LAST, ask, finished
from tests.page.hostile import HOSTILE
from tests.page.scripted import ScriptedServer

pytestmark = pytest.mark.slow
ELEMENTS = {
    "P", "BR", "STRONG", "EM", "DEL", "CODE", "PRE", "FIGURE", "FIGCAPTION", "BUTTON", "H3", "H4", "H5", "H6", "HR",
    "BLOCKQUOTE", "UL", "OL", "LI", "DIV", "TABLE", "THEAD", "TBODY", "TR", "TH", "TD", "A",
}  # fmt: skip
ATTRIBUTES = {"class", "href", "title", "target", "rel", "tabindex", "role", "aria-label", "type", "start"}
CLASSES = {"code", "quiet", "table", "left", "center", "right"}
DRAWN = """body => [...body.querySelectorAll("*")].map(node => [node.tagName,
    Object.fromEntries([...node.attributes].map(({name, value}) => [name, value]))])"""


def faults(nodes: list[tuple[str, dict[str, str]]]) -> list[str]:
    """What among the drawn elements no answer may have."""
    found = [tag for tag, _ in nodes if tag not in ELEMENTS]
    for tag, attributes in nodes:
        found += [f"{tag} {name}" for name in attributes if name not in ATTRIBUTES]
        found += [f"class {name}" for name in attributes.get("class", "").split() if name not in CLASSES]
        if "href" in attributes:
            address = urlsplit(attributes["href"])
            if address.scheme not in ("http", "https", "mailto") or "<" in attributes["href"]:
                found.append(attributes["href"])
            if attributes.get("rel") != "noopener noreferrer nofollow" or attributes.get("target") != "_blank":
                found.append("a link that hands the page on")
    return found


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) >= 50


def test_hostile_answers_are_text(visit: Visit, scripted: ScriptedServer) -> None:
    page = visit(scripted.url, bypass_csp=True)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id).sort()")
    found = []
    for answer in HOSTILE:
        middle = len(answer) // 2
        scripted.pieces = [answer[:middle], answer[middle : middle + 1], answer[middle + 1 :]]
        page.get_by_role("button", name="New conversation").click()
        begun = time.monotonic()
        ask(page, "Next")
        body = finished(page)
        if wrong := faults(body.evaluate(DRAWN)):
            found.append((answer[:80], wrong))
        if time.monotonic() - begun > 5:
            found.append((answer[:80], ["took longer than 5 s"]))
    assert found == []
    assert dialogs == []
    # Nothing was put beside or over the page's own elements, and it still works.
    assert page.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id).sort()") == ids
    scripted.pieces = ["Still here."]
    ask(page, "And now?")
    expect(page.locator(f"{LAST} .body p")).to_have_text("Still here.")


def test_what_looks_like_html_is_shown_as_it_was_written(visit: Visit, scripted: ScriptedServer) -> None:
    page = visit(scripted.url)
    for text in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))"):
        scripted.pieces = [text]
        ask(page, text)
        expect(finished(page)).to_have_text(text)
        expect(page.locator(".user").last.locator(".body")).to_have_text(text)


def test_hostile_conversations_of_before_are_text_too(visit: Visit, scripted: ScriptedServer) -> None:
    """Whatever got into the browser's storage, in the list and in the conversation."""
    page = visit(scripted.url, bypass_csp=True)
    evil = "<img src=x onerror=alert(1)>"
    said = [{"role": "user", "content": evil}, {"role": "assistant", "content": evil, "error": evil}]
    whole = {"id": "1", "title": evil, "updated": 1, "system": evil, "sampling": {}, "messages": said}
    for number, text in enumerate([json.dumps(whole), "{broken", "null", "[]", '{"messages": 7}']):
        page.evaluate("([name, text]) => localStorage.setItem(name, text)", [f"xuanyuan.conversation.{number}", text])
    page.reload()
    expect(page.locator("#conversations .title")).to_have_text("<img src=x onerror=alert(1)>")
    expect(page.locator(".error")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.locator("main img").count() == 0


def test_the_policy_itself_stops_a_script_that_would_make_html(browser: Browser, scripted: ScriptedServer) -> None:
    page = browser.new_page()
    page.goto(scripted.url)
    script = "() => { try { document.body.innerHTML = '<p>x'; return ''; } catch (error) { return error.name; } }"
    assert page.evaluate(script) == "TypeError"
    expect(page.locator("#question")).to_be_visible()
    page.close()

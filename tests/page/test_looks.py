"""For everybody: no barrier that axe knows, keyboard alone, a phone's width, light and dark."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.page.conftest import Visit
from tests.page.driver import answered, ask, finished
from tests.page.scripted import ScriptedServer
from tests.page.test_behaviour import MARKDOWN

pytestmark = pytest.mark.slow
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}


@pytest.fixture(autouse=True)
def _usual(scripted: ScriptedServer) -> None:
    scripted.pieces, scripted.pause, scripted.cut = [MARKDOWN], 0.0, False


def start(page: Page) -> None:
    expect(page.locator("#figures")).not_to_be_empty()


def talk(page: Page) -> None:
    answered(page, "Draw everything")


def failed(page: Page) -> None:
    for path in ("v1/chat/completions", "status"):
        page.route(f"**/{path}", lambda route: route.abort())
    ask(page, "Lost")
    expect(page.locator(".error")).to_be_visible()
    expect(page.locator("#notice")).to_be_visible()


def prompt(page: Page) -> None:
    talk(page)
    page.locator("#prompt-open").click()
    expect(page.locator("#tokens .control").first).to_be_visible()


def status(page: Page) -> None:
    talk(page)
    page.locator("#strip").click()
    expect(page.locator(".chart")).to_have_count(6)


def settings(page: Page) -> None:
    page.locator("#settings-open").click()
    expect(page.locator("#settings")).to_be_visible()


def editing(page: Page) -> None:
    talk(page)
    page.locator(".user .foot button").last.click()


STATES = [start, talk, failed, prompt, status, settings, editing]


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_axe_finds_no_serious_fault(visit: Visit, scripted: ScriptedServer, state: Callable[[Page], None]) -> None:
    found = []
    for scheme, viewport in (("light", WIDE), ("dark", WIDE), ("light", PHONE)):
        page = visit(scripted.url, color_scheme=scheme, viewport=viewport, bypass_csp=True)
        state(page)
        report = Axe().run(page).response
        assert report["passes"]
        for fault in report["violations"]:
            if fault["impact"] in ("serious", "critical"):
                found.append((scheme, viewport["width"], fault["id"], [node["html"] for node in fault["nodes"]][:3]))
        page.close()
    assert found == []


def test_everything_is_done_with_the_keyboard_alone(visit: Visit, scripted: ScriptedServer) -> None:
    page = visit(scripted.url)
    scripted.pieces = ["Hello."]
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("First")
    page.keyboard.press("Enter")
    finished(page)
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"question", "send", "new", "strip", "prompt-open", "settings-open", "Copy", "Edit", "Try again"} <= reached
    for opener, panel, closer in (
        ("prompt-open", "prompt-panel", "prompt-close"),
        ("strip", "status-panel", "status-close"),
    ):
        page.locator(f"#{opener}").focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"#{panel}")).to_be_visible()
        expect(page.locator(f"#{closer}")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator(f"#{panel}")).to_be_hidden()
        expect(page.locator(f"#{opener}")).to_be_focused()
    page.locator("#settings-open").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.locator("#settings-open")).to_be_focused()
    page.locator("#new").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#messages > li")).to_have_count(0)
    expect(page.locator("#question")).to_be_focused()


def test_the_first_stop_of_the_keyboard_leads_to_the_question(visit: Visit, scripted: ScriptedServer) -> None:
    page = visit(scripted.url)
    first = page.locator("a, button, input, textarea, [tabindex='0']").first
    first.focus()
    expect(first).to_have_text("To the question field")
    expect(first).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#question")).to_be_focused()


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_nothing_is_wider_than_a_phone(visit: Visit, scripted: ScriptedServer, state: Callable[[Page], None]) -> None:
    page = visit(scripted.url, viewport=PHONE)
    state(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    over = page.evaluate("""[...document.querySelectorAll("button, input, textarea, h1, h2, p")].filter((node) => {
        const {left, right, width} = node.getBoundingClientRect();
        const aside = node.closest(".table, pre, #sidebar, .unseen, .skip");
        return width > 1 && (left < -1 || right > innerWidth + 1) && !aside;
    }).map((node) => node.outerHTML.slice(0, 80))""")
    assert over == []


def test_on_a_phone_the_conversations_are_behind_a_button(visit: Visit, scripted: ScriptedServer) -> None:
    page = visit(scripted.url, viewport=PHONE)
    talk(page)
    expect(page.locator("#sidebar")).to_be_hidden()
    page.locator("#sidebar-open").click()
    expect(page.locator("#sidebar")).to_be_visible()
    page.locator("#conversations .title").click()
    expect(page.locator("#sidebar")).to_be_hidden()
    page.locator("#sidebar-open").click()
    page.keyboard.press("Escape")
    expect(page.locator("#sidebar")).to_be_hidden()


def test_light_and_dark_follow_the_system(visit: Visit, scripted: ScriptedServer) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page = visit(scripted.url, color_scheme=scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(247, 248, 250)", "rgb(16, 20, 27)"]

"""A real browser (Debian's Chromium) and the servers that the page comes from in these tests."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.conftest import real_server
from tests.keyed_server import RealServer
from tests.page.scripted import ScriptedServer

CHROMIUM = shutil.which("chromium")
# The rest keeps the browser from asking hosts of its maker's.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
Visit = Callable[..., Page]


# Not for the session: while it runs, no asyncio loop of another test may.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """What a page did that no page of ours may do."""

    faults: list[str]

    def message(self, message: ConsoleMessage) -> None:
        # The browser reports refused and failed requests as errors of its own; the page shows them.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def request(self, request: Request, url: str) -> None:
        if not request.url.startswith((f"{url}/", "blob:")):
            self.faults.append(f"asked another host: {request.url}")


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens the page in a new browser profile. At the end no page may have set a cookie, failed, or left its host."""
    contexts: list[BrowserContext] = []
    watched = Watched([])

    def opened(url: str, **options: object) -> Page:
        context = browser.new_context(**{"locale": "en-US", "viewport": {"width": 1280, "height": 800}, **options})  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(90_000)
        page = context.new_page()
        page.on("console", watched.message)
        page.on("pageerror", lambda error: watched.faults.append(f"exception: {error}"))
        page.on("request", lambda request: watched.request(request, url))
        page.goto(url)
        return page

    yield opened
    cookies = [cookie for context in contexts for cookie in context.cookies()]
    for context in contexts:
        context.close()
    assert watched.faults == []
    assert cookies == []


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedServer]:
    """An app that answers what a test dictates, behind the real guard."""
    server = ScriptedServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def short_lived(tmp_path: Path) -> Iterator[RealServer]:
    """One that a test may end."""
    yield from real_server(tmp_path)

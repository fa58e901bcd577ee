"""The pictures in the docs, of the demo model: `python -m tests.page.screenshots [FOLDER]`, by default docs/images."""

import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.page.conftest import CHROMIUM, FLAGS
from tests.page.driver import answered, set_up
from tests.server_process import ServerProcess

QUESTIONS = ("What is the difference between a stock and a bond?", "Make a list of three risks of bonds.")
WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}


def opened(browser: Browser, url: str, **options: object) -> Page:
    """The page in a new profile, with its status drawn."""
    page = browser.new_page(**options)  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.goto(url)
    page.locator(".dot.good").wait_for()
    return page


def talked(page: Page) -> None:
    """A conversation of two questions."""
    set_up(page, max_tokens=160)
    for question in QUESTIONS:
        answered(page, question)


def take(browser: Browser, url: str, folder: Path) -> None:
    """All pictures."""
    page = opened(browser, url, locale="en-US", viewport=WIDE, color_scheme="light")
    page.locator("#strip").click()
    talked(page)
    page.wait_for_timeout(5000)
    page.screenshot(path=folder / "page-light.png")
    page.emulate_media(color_scheme="dark")
    page.locator("#prompt-open").click()
    page.locator("#tokens .control").first.wait_for()
    page.screenshot(path=folder / "page-dark.png")
    for name, locale in (("page-phone", "en-US"), ("page-phone-zh", "zh-CN")):
        page = opened(browser, url, locale=locale, viewport=PHONE, color_scheme="light")
        if locale == "en-US":
            set_up(page, max_tokens=90)
            answered(page, QUESTIONS[0])
        page.screenshot(path=folder / f"{name}.png")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp())
    server = ServerProcess([], temporary)
    try:
        server.wait_ready()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            take(browser, server.url, folder)
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(temporary)


if __name__ == "__main__":
    main()

"""What a person does on the page."""

from playwright.sync_api import Locator, Page, expect

LAST = ".assistant:last-child"


def set_up(page: Page, *, key: str = "", max_tokens: int = 0) -> None:
    """Fill in the settings."""
    page.get_by_role("button", name="Settings").click()
    if key:
        page.get_by_label("API key").fill(key)
    if max_tokens:
        page.get_by_label("Most tokens in an answer").fill(str(max_tokens))
    page.get_by_role("button", name="Done").click()
    expect(page.locator("#notice")).to_be_hidden()


def ask(page: Page, question: str) -> None:
    """Type a question and send it."""
    page.get_by_label("Ask a question").fill(question)
    page.keyboard.press("Enter")


def finished(page: Page) -> Locator:
    """Wait for the end of the answer; the answer."""
    expect(page.locator(f"{LAST} .foot button").first).to_be_visible(timeout=90_000)
    expect(page.locator("#send")).to_be_visible()
    return page.locator(f"{LAST} .body")


def answered(page: Page, question: str) -> str:
    """Ask, wait, and return the answer's text."""
    ask(page, question)
    return finished(page).inner_text()

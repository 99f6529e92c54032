"""A browser for the tests of pages."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OURS = ("http://127.0.0.1:", "file:", "data:")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium, or skip the test where there is none."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextlib.contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """Open a page; at the end nothing may have been asked of another host, and no script may have complained."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(url)
    page.wait_for_load_state("networkidle")
    yield page
    page.wait_for_load_state("networkidle")
    page.close()
    assert asked
    assert [one for one in asked if not one.startswith(_OURS)] == []
    assert complaints == []

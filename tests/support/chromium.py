"""A browser for the tests of pages."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_NETWORK_CHANGED, _LOADS = "net::ERR_NETWORK_CHANGED", 5
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


@dataclass
class _Heard:
    """What became known of a page while it was open."""

    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def of(self, page: Page) -> None:
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: self._complain(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self._complain(str(error)))
        page.on("requestfailed", lambda request: self._complain(f"{request.url}: {request.failure}"))

    def _complain(self, text: str) -> None:
        self.complaints.append(text)

    @property
    def network_changed(self) -> bool:
        return any(_NETWORK_CHANGED in one for one in self.complaints)


@contextlib.contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """Open a page; at the end nothing may have been asked of another host, and no script may have complained.

    Chromium gives up all requests that wait for a connection, those to loopback too, when an interface of this machine
    comes or goes, as in the tests of the virtual network that run beside these. A page that lost some is opened anew.
    """
    viewport: ViewportSize = {"width": width, "height": 800}
    for _ in range(_LOADS):
        page, heard = browser.new_page(viewport=viewport, color_scheme="dark" if dark else "light"), _Heard()
        heard.of(page)
        page.goto(url)
        page.wait_for_load_state("networkidle")
        if not heard.network_changed:
            break
        page.close()
    yield page
    page.wait_for_load_state("networkidle")
    page.close()
    assert heard.asked
    assert [one for one in heard.asked if not one.startswith(_OURS)] == []
    assert heard.complaints == []

"""A browser for the tests of pages."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_NETWORK_CHANGED, _MORE_LOADS = "net::ERR_NETWORK_CHANGED", 4
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
        complain = self.complaints.append
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda said: complain(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complain(str(error)))
        page.on("requestfailed", lambda request: complain(f"{request.url}: {request.failure}"))

    @property
    def network_changed(self) -> bool:
        return any(_NETWORK_CHANGED in one for one in self.complaints)


@contextlib.contextmanager
def visit(browser: Browser, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """Open a page; at the end nothing may have been asked of another host, and no script may have complained.

    Chromium gives up all requests that wait for a connection, those to loopback too, when an interface of this machine
    comes or goes, as in the tests of the virtual network that run beside these. A page that lost some is opened anew.
    """
    page, heard = _opened(browser, url, width, dark)
    for _ in range(_MORE_LOADS):
        if not heard.network_changed:
            break
        page.close()
        page, heard = _opened(browser, url, width, dark)
    yield page
    page.wait_for_load_state("networkidle")
    page.close()
    assert heard.asked
    assert [one for one in heard.asked if not one.startswith(_OURS)] == []
    assert heard.complaints == []


def follow(page: Page, link: str) -> None:
    """Click on a link, and wait until its page is quiet: one that is left earlier gives up what it asked for."""
    with page.expect_navigation(wait_until="networkidle"):
        page.click(link)


def _opened(browser: Browser, url: str, width: int, dark: bool) -> tuple[Page, _Heard]:
    """Return a page that was loaded, and what became known of it."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light")
    heard = _Heard()
    heard.of(page)
    page.goto(url)
    page.wait_for_load_state("networkidle")
    return page, heard

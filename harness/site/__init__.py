"""What is added to the site that asv publishes: it works without a network, and has pages of our own."""

from pathlib import Path
from typing import Any

from asv.console import log
from asv.util import UserError

from harness.paths import write_atomically
from harness.site import offline
from harness.site.page import Page
from harness.site.pages import index, readers, sweeps, timelines, training

PAGES: tuple[Page, ...] = (index.PAGE, readers.PAGE, timelines.PAGE, training.PAGE, sweeps.PAGE)
"""Our pages, in the order of the navigation: a new one is a folder in harness/site/pages, and its name here."""

GRAPHS = "graphs.html"
"""asv's own page, whose place as the first one ours takes."""

_NAVIGATION = '<li id="nav-li-regressions">'
"""asv's page has its navigation written out; our entry goes before this one."""


def complete(conf: Any) -> None:
    """Change the site that asv just wrote: add our own pages, and make asv's own page work without a network.

    The first page is the answer, and asv's is called `GRAPHS`.

    Parameters
    ----------
    conf
        asv's configuration, whose ``html_dir`` holds the site.

    Raises
    ------
    UserError
        asv's page is not the one this module knows, as after an update of asv.
    """
    html = Path(conf.html_dir)
    first = html / index.PAGE.file
    try:
        page = first.read_text(encoding="utf-8")
        shown = [(one, contents) for one in PAGES if (contents := one.contents(conf)) is not None]
        for one, contents in shown:
            one.write(contents, html, links=[other for other, _ in shown if other is not one])
            page = with_entry(page, one.file, one.title)
        write_atomically(html / GRAPHS, _offline(page, html).encode())
    except offline.ChangedError as error:
        raise UserError(f"asv's page has changed, harness/site has to follow: {error}") from error


def with_entry(page: str, address: str, title: str) -> str:
    """Return asv's page with one more entry in its navigation.

    Raises
    ------
    offline.ChangedError
        The place for it is not there.
    """
    if page.count(_NAVIGATION) != 1:
        raise offline.ChangedError(f"it holds {page.count(_NAVIGATION)} times {_NAVIGATION}, not once")
    entry = f'<li id="nav-li-{title.lower()}"><a href="{address}">{title}</a></li>'
    return page.replace(_NAVIGATION, entry + _NAVIGATION)


def _offline(page: str, html: Path) -> str:
    local = offline.rewrite(page)
    try:
        contents = offline.libraries()
    except offline.MissingError as error:
        log.warning(f"asv's page will need the network: {error}")
        return page
    vendor = html / offline.VENDOR
    vendor.mkdir(exist_ok=True)
    for name, content in contents.items():
        (vendor / name).write_bytes(content)
    return local

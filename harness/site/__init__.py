"""What is added to the site that asv publishes: it works without a network, and has pages of our own."""

from pathlib import Path
from typing import Any

from asv.console import log
from asv.util import UserError

from harness.results import records
from harness.results import timelines as kept
from harness.site import offline, readers, timelines

_NAVIGATION = '<li id="nav-li-regressions">'
"""asv's page has its navigation written out; our entry goes before this one."""


def complete(conf: Any) -> None:
    """Change the site that asv just wrote: add the page of readers, and make asv's own page work without a network.

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
    index = html / "index.html"
    try:
        page = index.read_text()
        found = kept.of(conf, Path())
        if _publish_readers(conf, html, has_timelines=bool(found)):
            page = with_entry(page, readers.FILE, "Readers")
        if found:
            timelines.publish(found, html)
            page = with_entry(page, timelines.FILE, "Timelines")
        index.write_text(_offline(page, html))
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


def _publish_readers(conf: Any, html: Path, *, has_timelines: bool) -> bool:
    """Write the page of readers; without pass records there is none, and results older than them still publish."""
    found = records.of(conf, Path())
    if not found:
        log.warning(f"no {readers.FILE}: the results hold no pass records, which `asv run` writes")
        return False
    (html / readers.FILE).write_text(readers.render(found, project=conf.project, has_timelines=has_timelines))
    return True


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

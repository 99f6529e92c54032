"""What a page of ours is: a folder with a template, and a function that makes its data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.timeline.pictures.render import render


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a page shows."""

    data: dict[str, Any]
    """JSON values, in the page itself; unknown is null."""
    beside: Iterable[tuple[str, str]] = ()
    """Path below the site's folder and text of each file that the page loads when it is wanted."""
    pictures: Mapping[str, str] = field(default_factory=dict)
    """SVG documents of our own making that stand in the page, by the name that its template uses."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the site; `folder`, whose name it bears, holds ``page.html`` and what that names."""

    folder: Path
    title: str
    """In asv's navigation."""
    heading: str
    """Over the page, and what other pages call it."""
    contents: Callable[[Any], Contents | None]
    """Return what asv's configuration has to show, its relative paths starting here; None where there is nothing."""

    @property
    def file(self) -> str:
        """The page's name in the site's folder."""
        return f"{self.folder.name}.html"

    def write(self, shown: Contents, html: Path, *, links: Sequence["Page"] = ()) -> Path:
        """Write the page and what it loads into the site's folder `html`; `links` are pages that it leads to."""
        for name, text in shown.beside:
            path = html / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        text = render(
            "page.html",
            self.folder,
            self.folder.parent,
            data=shown.data,
            pictures=shown.pictures,
            page=self,
            links=links,
        )
        written = html / self.file
        written.write_text(text, encoding="utf-8")
        return written

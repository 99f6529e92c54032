"""The page "Timelines": every kept recording, two at a time on one axis; each is a script beside the page.

A script, because a page that was opened as a file may load scripts beside it, and nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.results.timelines import TimelineRecord
from harness.site.offline import ASSETS
from harness.timeline.pictures.page import ASSETS as PICTURES
from harness.timeline.pictures.page import constants, payload
from harness.timeline.pictures.template import fill

FILE = "timelines.html"
FOLDER = "timelines"


def publish(found: Sequence[TimelineRecord], html: Path) -> None:
    """Write the page and the recordings beside it.

    Parameters
    ----------
    found
        In the order of commits; of several equal in reader, read, place and commit the last is shown.
    html
        The site's directory.
    """
    shown = list(
        {(record.timeline.reader, record.read, _place(record), _commit(record)): record for record in found}.values()
    )
    folder = html / FOLDER
    folder.mkdir(exist_ok=True)
    for number, record in enumerate(shown):
        (folder / f"{number}.js").write_text(f"zcbLoaded({number},{_json(payload(record.timeline))});\n")
    index = [
        {
            "reader": record.timeline.reader,
            "read": record.read,
            "place": _place(record),
            "commit": _commit(record),
            "started": record.started,
        }
        for record in shown
    ]
    page = fill(
        ASSETS / "timelines.html",
        {
            "/*STYLE*/": (PICTURES / "timeline.css").read_text(),
            "/*VIEWER*/": (PICTURES / "timeline.js").read_text(),
            "/*SCRIPT*/": (ASSETS / "timelines.js").read_text(),
            "/*DATA*/": _json({**constants(), "index": index}),
        },
    )
    (html / FILE).write_text(page)


def _place(record: TimelineRecord) -> str:
    return " ".join(filter(None, (record.timeline.target, record.settings.get("ZCB_PRESET"))))


def _commit(record: TimelineRecord) -> str:
    return record.commit_name or f"zarr {record.timeline.versions.get('zarr', 'unknown')}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

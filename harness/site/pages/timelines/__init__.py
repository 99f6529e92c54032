"""The page "Timelines": every kept recording, two at a time on one axis; each is a script beside the page.

A script, because a page that was opened as a file may load scripts beside it, and nothing else.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from harness.results import timelines as kept
from harness.results.timelines import TimelineRecord
from harness.site.page import Contents, Page
from harness.timeline.pictures.page import constants, payload

ALONE = "nothing"
"""What stands beside a recording that is shown alone."""


def _contents(conf: Any) -> Contents | None:
    found = kept.of(conf, Path())
    return contents(found) if found else None


def contents(found: Sequence[TimelineRecord]) -> Contents:
    """Return what the page shows.

    Parameters
    ----------
    found
        In the order of commits; of several equal in reader, read, place and commit the last is shown.
    """
    entries = [(_entry(record), record) for record in found]
    shown = list({tuple(entry.values()): (entry, record) for entry, record in entries}.values())
    index = [{**entry, "started": record.started} for entry, record in shown]
    scripts = ((f"timelines/{number}.js", _script(number, record)) for number, (_, record) in enumerate(shown))
    return Contents(data={**constants(), "index": index, "alone": ALONE}, beside=scripts)


def _entry(record: TimelineRecord) -> dict[str, str]:
    timeline = record.timeline
    return {
        "reader": timeline.reader,
        "read": record.read,
        "place": " ".join(filter(None, (timeline.target, record.settings.get("ZCB_PRESET")))),
        "commit": record.commit_name or f"zarr {timeline.versions.get('zarr', 'unknown')}",
    }


def address(record: TimelineRecord) -> str:
    """Return where the page shows a recording alone."""
    return f"{PAGE.file}#{urlencode(_entry(record) | {'reader2': ALONE})}"


def _script(number: int, record: TimelineRecord) -> str:
    shown = json.dumps(payload(record.timeline), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"zcbLoaded({number},{shown});\n"


PAGE = Page(
    folder=Path(__file__).parent,
    title="Timelines",
    heading="Where the time of each chunk went",
    contents=_contents,
)

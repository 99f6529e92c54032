"""The first page: the answer, readers against the network limit, what it was measured on, and the way to the rest.

One file that needs nothing else. What asv names by addresses of the first page, as in its feed of regressions, is
sent on to asv's own page, which took another name.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.readers import under_test
from harness.results import cells, records
from harness.results.answer import Answer, answer
from harness.results.answer_lines import lines
from harness.results.records import PassRecord
from harness.results.sample import NETWORK_LIMIT
from harness.site import chart
from harness.site.chart import Panel
from harness.site.page import Contents, Page

_WIDE, _NARROW = 860, 350
"""Widths of the two drawings of each picture, of which the page shows the one that fits the window."""


def _contents(conf: Any) -> Contents:
    return contents(records.of(conf, Path()), project=conf.project)


def contents(found: Sequence[PassRecord], *, project: str) -> Contents:
    """Return what the page shows: of the place that was measured last; without pass records that there are none."""
    if not found:
        return Contents(data={"project": project, "answer": None})
    passes = cells.at_one_place(found)
    said, panels = answer(passes, under_test()), chart.panels(passes, under_test())
    main = chart.chosen(panels)
    data = {
        "project": project,
        "answer": msgspec.to_builtins(said),
        "lines": msgspec.to_builtins(lines(said)),
        "basis": basis(passes),
        "elsewhere": sorted({cells.place(record) for record in found} - {said.place}),
        "main": [_shown(panel) for panel in main],
        "others": [_shown(panel) for panel in panels if panel not in main],
    }
    return Contents(data=data, pictures=dict(_pictures(said, panels, main)))


def _pictures(said: Answer, panels: Sequence[Panel], main: Sequence[Panel]) -> Iterable[tuple[str, str]]:
    ends = chart.axis(panels)
    for name, shown in (("main", main), ("others", [panel for panel in panels if panel not in main])):
        for kind, width in (("wide", _WIDE), ("narrow", _NARROW)):
            if shown:
                key = f"{name}_{kind}"
                yield key, chart.svg(shown, title=chart.title(said), name=key, width=width, ends=ends)


def _shown(panel: Panel) -> dict[str, Any]:
    bars = [{"reader": bar.label, "value": bar.value, "interval": bar.interval} for bar in panel.bars]
    return {"pattern": panel.pattern, "workload": panel.workload, "bars": bars}


def basis(passes: Iterable[PassRecord]) -> dict[str, str]:
    """Return what passes were measured on and with, in words; what differs between them stands side by side."""
    told: Mapping[str, Callable[[PassRecord], Iterable[str]]] = {
        "Versions": lambda one: [one.variant],
        "Read from": lambda one: [one.target],
        "Data sets": lambda one: [one.settings.get("ZCB_PRESET", "")],
        "Network": lambda one: one.network.interfaces if one.network else (),
        "Machine": lambda one: [f"{one.machine}: {one.cpu}, {one.cores} core{'' if one.cores == 1 else 's'}"],
        "Python": lambda one: [one.python],
    }
    known = list(passes)
    said = {
        name: ", ".join(filter(None, dict.fromkeys(v for one in known for v in of(one)))) for name, of in told.items()
    }
    days = sorted(record.started.partition("T")[0] for record in known)
    rows = [row for record in known for row in record.rows if row.samples and row.reader != NETWORK_LIMIT]
    counts = sorted(len(row.samples) for row in rows)
    said["Measured"] = _range(days, " to ")
    said["Samples of a row"] = _range([str(count) for count in counts], " to ")
    return {name: text for name, text in said.items() if text}


def _range(ordered: Sequence[str], between: str) -> str:
    return between.join(dict.fromkeys((ordered[0], ordered[-1]))) if ordered else ""


PAGE = Page(folder=Path(__file__).parent, title="Answer", heading="What was found", contents=_contents)

"""The view of ``zcb table --against``: two targets side by side, and the rankings that turn over between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from harness.errors import BadUseError
from harness.results import cells, figures, turnover
from harness.results.cells import Cell, Workload
from harness.results.intervals import Interval
from harness.results.metrics import DEFAULT_METRIC, METRICS
from harness.results.records import PassRecord, RowRecord
from harness.results.slower import slower
from harness.results.text import coverage, few, number, short_label, times
from harness.results.turnover import Quantile, Turned
from harness.store.state import PROFILES

ByWorkload = Mapping[Workload, Mapping[str, Cell]]

_FACTOR = METRICS[DEFAULT_METRIC].factor
_HEADINGS = ("ms", "interval", "p95", "x limit")


def other_target(passes: Sequence[PassRecord], asked: str, here: str) -> str:
    """Return the target that is meant: a target, or another profile of the embedded store on the same network.

    Raises
    ------
    BadUseError
        Nothing was measured there.
    """
    known = dict.fromkeys(record.target for record in passes)
    link = here.partition("+")[2]
    meant = f"embedded:{asked}{f'+{link}' if link else ''}" if asked in PROFILES else asked
    if meant not in known:
        raise BadUseError(f"no results of target {meant!r}: there are {', '.join(known)}")
    return meant


@dataclass(kw_only=True)
class Against:
    """Workloads x readers at two targets, at one version each."""

    names: Sequence[str]
    """Targets, in the order of `sides`."""
    versions: Sequence[str]
    sides: Sequence[ByWorkload]

    def turned(self) -> list[Turned]:
        """Return the rankings that turn over."""
        here, there = self.sides
        return list(turnover.turned(here, there))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield each workload and reader, with both targets' figures in milliseconds."""
        for workload, readers in self._lines():
            for name in readers:
                sides = [side.get(workload, {}).get(name) for side in self.sides]
                yield {
                    "workload": workload[1],
                    "in_flight": workload[2],
                    "reader": name,
                    "sides": [_plain(cell) for cell in sides],
                }

    def as_json(self) -> dict[str, Any]:
        """Return all of it."""
        turned = [
            {**msgspec.to_builtins(one), "workload": one.workload[1], "in_flight": one.workload[2]}
            for one in self.turned()
        ]
        return {
            "schema": 1,
            "sides": list(self.names),
            "versions": list(self.versions),
            "rows": list(self.rows()),
            "turned": turned,
        }

    def _lines(self) -> Iterator[tuple[Workload, list[str]]]:
        """Yield the workloads of both sides, each with its readers."""
        for workload in dict.fromkeys(work for side in self.sides for work in side):
            found = [cell for side in self.sides for cell in side.get(workload, {}).values()]
            yield workload, cells.readers(found)

    def drawn(self) -> Group:
        """Return the table, and below it what turns over."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("workload", overflow="fold")
        for name in self.names:
            for place, heading in enumerate(_HEADINGS):
                table.add_column(f"{name if place == 0 else ''}\n{heading}", justify="right", no_wrap=place > 0)
        notes: dict[str, list[str]] = {}
        for workload, readers in self._lines():
            any_row = next(side[workload] for side in self.sides if workload in side)
            row = next(iter(any_row.values())).row
            table.add_section()
            table.add_row(Text(f"{row.pattern.replace('_', ' ')} {short_label(row)}", style="bold"))
            for name in readers:
                found = [side.get(workload, {}).get(name) for side in self.sides]
                table.add_row(f"  {name}", *(text for cell in found for text in _texts(cell, notes)))
        rows = [cell.row for side in self.sides for of in side.values() for cell in of.values()]
        title = Text(f"Times of {' and '.join(dict.fromkeys(self.versions))}", style="bold")
        return Group(
            title, table, *(Text(line) for line in self._said()), *(Text(line, "dim") for line in _caption(rows, notes))
        )

    def _said(self) -> Iterator[str]:
        found = self.turned()
        if not found:
            yield "No ranking of two readers turns over for sure."
            return
        yield f"Rankings that turn over for sure ({len(found)}): time of the first reader over that of the second"
        for one in found:
            here, there = (f"{times(of.median)} [{times(of.low)}, {times(of.high)}]" for of in (one.here, one.there))
            yield f"  {one.workload[1]}: {one.faster} / {one.slower}: {here} becomes {there}"


def _texts(cell: Cell | None, notes: dict[str, list[str]]) -> list[Text]:
    """Return a reader's figures at a target: median, interval, 95th percentile, times slower than the limit."""
    if cell is None or not cell.row.samples:
        reason = "-" if cell is None else "n/a" if cell.row.na else "failed"
        return [Text(reason, style="dim"), Text(), Text(), Text()]
    row = cell.row
    known, last, distance = figures.shown(row, DEFAULT_METRIC), turnover.tail(row), slower(row.samples, row.in_flight)
    figure = "" if distance.interval is None else times(distance.interval.median)
    if distance.note:
        named = notes.setdefault(distance.note, [])
        named += [row.reader] if row.reader not in named else []
        figure = f"{figure} [{list(notes).index(distance.note) + 1}]".strip()
    texts = (number(known.median) if known else "", _ends(known), _tail(last), figure)
    return [Text(text, style="" if place == 0 else "dim") for place, text in enumerate(texts)]


def _ends(known: Interval | None) -> str:
    if known is None:
        return ""
    return f"{number(known.low)}-{number(known.high)}" if known.sure else few(known)


def _tail(of: Quantile | None) -> str:
    """Return a 95th percentile in milliseconds; empty where there are too few samples."""
    return "" if of is None else number(_FACTOR * of.value)


def _plain(cell: Cell | None) -> dict[str, Any] | None:
    if cell is None:
        return None
    row = cell.row
    known, last, distance = figures.shown(row, DEFAULT_METRIC), turnover.tail(row), slower(row.samples, row.in_flight)
    return {
        "median": _interval(known),
        "p95": None if last is None else {
            "value": _FACTOR * last.value,
            "low": _FACTOR * last.low,
            "high": None if last.high is None else _FACTOR * last.high,
            "count": last.count,
        },
        "times_slower": _interval(distance.interval),
        "times_slower_note": distance.note,
        "floor": None if row.floor_seconds is None else _FACTOR * row.floor_seconds,
        "na": row.na,
        "error": row.error,
    }  # fmt: skip


def _interval(of: Interval | None) -> dict[str, Any] | None:
    if of is None:
        return None
    fields: dict[str, Any] = msgspec.to_builtins(of)
    return fields if of.sure else fields | dict.fromkeys(("low", "high", "coverage"))


def _caption(rows: Sequence[RowRecord], notes: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield f"ms: median; interval: of the median. {coverage(rows)}"
    yield f"p95: 95th percentile of all samples, from {turnover.FEWEST_OF_TAIL} of them on; --json has its interval."
    yield "x limit: times slower than the network limit in the same rounds, by medians."
    for place, (note, named) in enumerate(notes.items(), 1):
        yield f"[{place}] {', '.join(named)}: {note}"

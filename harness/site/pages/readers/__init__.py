"""The page "Readers": one file that holds its data and needs nothing else, not even a server.

Every figure that it can show is computed here, as `zcb table` computes it, and written as it is shown; the page's
script only chooses and draws.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asv.console import log

from harness.readers import why_few_in_flight
from harness.readers.settings import in_words
from harness.results import cells, drift, figures, metrics, records
from harness.results.cells import Cell
from harness.results.intervals import Interval
from harness.results.metrics import METRICS, Metric
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import FLAGS, NETWORK_LIMIT
from harness.results.sessions import by_session
from harness.results.slower import slower
from harness.results.text import coverage, detail, few, number, short_label, times
from harness.site.page import Contents, Page

_OF_METRICS = ("key", "title", "group", "unit", "better", "meaning")
_MARKS = {"better": " +", "worse": " -", "": ""}


def _contents(conf: Any) -> Contents | None:
    """Return what the page shows; without pass records there is none, and results older than them still publish."""
    found = records.of(conf, Path())
    if found:
        return Contents(data=payload(found, project=conf.project))
    log.warning(f"no {PAGE.file}: the results hold no pass records, which `asv run` writes")
    return None


def payload(found: Sequence[PassRecord], *, project: str) -> dict[str, Any]:
    """Return what the page shows, as plain JSON values; unknown is null.

    Parameters
    ----------
    found
        Pass records in the order of versions.
    project
        What is under test, e.g. ``zarr-python``.
    """
    places: dict[str, list[PassRecord]] = {}
    for record in found:
        places.setdefault(cells.place(record), []).append(record)
    return {
        "project": project,
        "metrics": [{name: getattr(metric, name) for name in _OF_METRICS} for metric in METRICS.values()],
        "flags": {flag.key: {"mark": flag.mark, "meaning": flag.meaning} for flag in FLAGS.values()},
        "default_metric": metrics.DEFAULT_METRIC,
        "default_baseline": cells.DEFAULT_BASELINE,
        "network_limit": NETWORK_LIMIT,
        "places": [_place(name, passes) for name, passes in places.items()],
    }


def _place(name: str, passes: Sequence[PassRecord]) -> dict[str, Any]:
    versions = cells.variants(passes)
    moves = drift.control_changes(versions)
    return {
        "name": name,
        "versions": [_version(version, cells.newest(of)) for version, of in versions.items()],
        "notices": drift.drift_notices(moves),
        "compared": len(moves),
        "controls": sorted({move.control for move in moves}),
        "drift_percent": round(drift.DRIFT * 100),
    }


def _version(name: str, found: Sequence[Cell]) -> dict[str, Any]:
    readers = cells.readers(found)
    return {
        "name": name,
        "readers": readers,
        "libraries": cells.libraries(found),
        "coverage": coverage(cell.row for cell in found),
        "workloads": [_workload(of, readers) for of in cells.by_workload(found).values()],
        "runs": _runs(found),
    }


def _workload(found: Mapping[str, Cell], readers: Sequence[str]) -> dict[str, Any]:
    """Return a workload: what it is, and of each reader, in the order of `readers`, what happened and every figure."""
    any_row = next(iter(found.values())).row
    rows = [found[name].row if name in found else None for name in readers]
    return {
        "pattern": any_row.pattern,
        "title": short_label(any_row),
        "detail": detail(any_row),
        "floor": _floor(found.values()),
        "rows": [row and _row(row) for row in rows],
        "figures": {metric.key: known for metric in METRICS.values() if (known := _figures(rows, metric))},
    }


def _floor(found: Iterable[Cell]) -> str | None:
    """Return the least time that the store leaves, as it is shown; None where it is unknown."""
    known = [cell.row.floor_seconds for cell in found if cell.row.floor_seconds is not None]
    return f"floor {number(1e3 * known[0])} ms" if known else None


def _row(row: RowRecord) -> dict[str, Any]:
    flags = sorted({flag for sample in row.samples for flag in sample.flags})
    return {
        "na": row.na,
        "error": row.error,
        "count": len(row.samples),
        "processes": len(by_session(row.samples)),
        "limit_note": slower(row.samples, row.in_flight).note,
        "flags": {flag: sum(flag in sample.flags for sample in row.samples) for flag in flags},
        "few_in_flight": why_few_in_flight(row.reader, row.samples, row.in_flight),
        "settings": in_words(row.settings) if row.settings else None,
    }


def _figures(rows: Sequence[RowRecord | None], metric: Metric) -> dict[str, Any] | None:
    """Return a metric of every reader, and its ratio to every reader as baseline; None where it is known of none."""
    known = [figures.figure(row, metric.key) if row else None for row in rows]
    if not any(known):
        return None
    return {
        "values": [one and _value(one, metric.factor) for one in known],
        "best": _best(rows, known, metric),
        "ratios": [[_ratio(row, base, metric) for row in rows] for base in rows],
    }


def _value(known: Interval, factor: float) -> list[str]:
    """Return the median as it is shown, and the ends of its interval where they differ; where it has none, why."""
    if not known.sure:
        return [number(known.median * factor), few(known)]
    shown = (known.median,) if known.low == known.high else (known.median, known.low, known.high)
    return [number(value * factor) for value in shown]


def _best(rows: Sequence[RowRecord | None], known: Sequence[Interval | None], metric: Metric) -> list[int]:
    """Return who has the best value and an interval, where it is not everyone's: the limit is no contestant."""
    compared = {
        place: one
        for place, (row, one) in enumerate(zip(rows, known, strict=True))
        if row and one and row.reader != NETWORK_LIMIT
    }
    medians = {one.median for one in compared.values()}
    if not metric.better or len(medians) < 2:
        return []
    best = (min if metric.better == "lower" else max)(medians)
    return [place for place, one in compared.items() if one.median == best and one.sure]


def _ratio(row: RowRecord | None, base: RowRecord | None, metric: Metric) -> str | None:
    """Return a ratio as it is shown: the median, the ends of its interval where it has one, and + or - where it counts.

    One text and not a list, since a page can hold a hundred thousand of them.
    """
    if row is None or base is None or row is base:
        return None
    of = figures.ratio(row, base, metric.key)
    if of is None:
        return None
    shown = (of.median, of.low, of.high) if of.sure else (of.median,)
    return " ".join(map(times, shown)) + _MARKS[of.improves(metric.better)]


def _runs(found: Iterable[Cell]) -> list[dict[str, Any]]:
    passes = {cell.run.pattern: cell.run for cell in found}
    return [
        {
            "pattern": run.pattern,
            "started": run.started,
            "commit": run.commit,
            "machine": run.machine,
            "cpu": run.cpu,
            "cores": run.cores,
            "python": run.python,
            "rounds": run.rounds,
            "sessions": run.sessions,
            "budget_seconds": run.budget_seconds,
        }
        for run in passes.values()
    ]


PAGE = Page(folder=Path(__file__).parent, title="Readers", heading="Readers", contents=_contents)

"""The page "Readers": one file that holds its data and needs nothing else, not even a server."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from harness.results import drift, intervals, metrics
from harness.results import tables as results
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import FLAGS, NETWORK_LIMIT
from harness.results.tables import Cell
from harness.site.offline import ASSETS
from harness.timeline.pictures.template import fill

FILE = "readers.html"

_TIMELINES = ' &middot; <a href="timelines.html">Where the time of each chunk went</a>'

_DIGITS = 9
"""So many that a figure of three digits comes out as in the terminal."""


def render(found: Sequence[PassRecord], *, project: str, has_timelines: bool = False) -> str:
    """Return the page for `found`.

    Parameters
    ----------
    found
        Pass records in the order of versions.
    project
        What is under test, e.g. ``zarr-python``.
    has_timelines
        Whether the page of timelines stands beside this one.
    """
    data = json.dumps(payload(found, project=project), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return fill(
        ASSETS / "readers.html",
        {
            "<!--TIMELINES-->": _TIMELINES if has_timelines else "",
            "/*STYLE*/": (ASSETS / "readers.css").read_text(),
            "/*SCRIPT*/": (ASSETS / "readers.js").read_text(),
            "/*DATA*/": data,
        },
    )


def payload(found: Sequence[PassRecord], *, project: str) -> dict[str, Any]:
    """Return what the page shows, as plain JSON values; unknown is null."""
    places: dict[str, list[PassRecord]] = {}
    for record in found:
        places.setdefault(results.place(record), []).append(record)
    counts = {len(row.samples) for record in found for row in record.rows}
    return {
        "project": project,
        "metrics": [
            {name: getattr(metric, name) for name in ("key", "title", "group", "unit", "factor", "better", "note")}
            for metric in metrics.METRICS.values()
        ],
        "flags": FLAGS,
        "ranks": {count: intervals.rank(count) for count in range(1, max(counts, default=0) + 1)},
        "sure": intervals.SURE,
        "default_metric": metrics.DEFAULT_METRIC,
        "default_baseline": results.DEFAULT_BASELINE,
        "network_limit": NETWORK_LIMIT,
        "places": [_place(name, passes) for name, passes in places.items()],
    }


def _place(name: str, passes: Sequence[PassRecord]) -> dict[str, Any]:
    versions = results.variants(passes)
    moves = drift.control_changes(versions)
    return {
        "name": name,
        "versions": [_version(version, results.cells(of)) for version, of in versions.items()],
        "notices": drift.drift_notices(moves),
        "compared": len(moves),
        "controls": sorted({move.control for move in moves}),
        "drift_percent": round(drift.DRIFT * 100),
    }


def _version(name: str, cells: Sequence[Cell]) -> dict[str, Any]:
    return {
        "name": name,
        "readers": results.readers(cells),
        "libraries": results.libraries(cells),
        "rows": [_row(cell) for cell in cells],
        "runs": _runs(cells),
    }


def _row(cell: Cell) -> dict[str, Any]:
    row = cell.row
    return {
        "reader": row.reader,
        "pattern": row.label.partition(" ")[0],
        "workload": results.short_label(row),
        "detail": results.detail(row),
        "key": list(cell.workload),
        "na": row.na,
        "error": row.error,
        "variant": row.variant,
        "count": len(row.samples),
        "flags": {flag: sum(flag in sample.flags for sample in row.samples) for flag in _flags(row)},
        "values": dict(_known(row)),
    }


def _flags(row: RowRecord) -> list[str]:
    return sorted({flag for sample in row.samples for flag in sample.flags})


def _known(row: RowRecord) -> Iterator[tuple[str, list[float | None]]]:
    """Yield each metric that is known of any sample; counts are exact."""
    for key in metrics.METRICS:
        values = [_rounded(value) for value in metrics.values(row, key)]
        if any(value is not None for value in values):
            yield key, values


def _rounded(value: float | None) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _runs(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    passes = {cell.run.pattern: cell.run for cell in cells}
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
            "budget_seconds": run.budget_seconds,
        }
        for run in passes.values()
    ]

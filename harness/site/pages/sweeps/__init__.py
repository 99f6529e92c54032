"""The page "Sweeps": throughput over requests in flight, of every sweep that was kept, the newest first."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.results import sweeps
from harness.results.intervals import Interval
from harness.results.metrics import METRICS
from harness.results.sweeps import FIGURES, InFlightSweep, SweptReader, SweptValue
from harness.results.text import number
from harness.site import curves
from harness.site.page import Contents, Page

_WIDTHS = {"wide": 860, "narrow": 350}
"""Of the two drawings of each sweep, of which the page shows the one that fits the window."""

_FACTORS = {"array_gbit_s": 1.0, "read_seconds": 1e3, "peak_rss_bytes": METRICS["peak_rss"].factor, "max_in_flight": 1}


def _contents(conf: Any) -> Contents | None:
    found = sweeps.of(conf, Path())
    return contents(found) if found else None


def contents(found: Sequence[InFlightSweep]) -> Contents:
    """Return what the page shows of sweeps."""
    pictures = {
        f"{place}_{kind}": curves.of_sweep(sweep, name=f"sweep{place}-{kind}", width=width)
        for place, sweep in enumerate(found)
        for kind, width in _WIDTHS.items()
    }
    return Contents(data={"sweeps": [_shown(sweep) for sweep in found]}, pictures=pictures)


def _shown(sweep: InFlightSweep) -> dict[str, Any]:
    return {
        "label": sweep.label,
        "target": sweep.target,
        "cores": sweep.cores,
        "sessions": sweep.sessions,
        "started": sweep.started,
        "readers": [_reader(sweep, reader) for reader in sweep.readers],
    }


def _reader(sweep: InFlightSweep, reader: SweptReader) -> dict[str, Any]:
    found = reader.knee()
    return {
        "reader": reader.reader,
        "knee": curves.knee_in_words(found),
        "versions": reader.versions,
        "values": [
            _value(sweep, value) | {"is_knee": found is not None and found.is_at(value.in_flight)}
            for value in reader.values
        ],
    }


def _value(sweep: InFlightSweep, value: SweptValue) -> dict[str, Any]:
    rate = sweep.figure(value, "array_gbit_s")
    return {
        "in_flight": value.in_flight,
        "why": value.na or value.error,
        "interval": f"{number(rate.low)} to {number(rate.high)}" if rate is not None and rate.sure else "",
        **{key: _median(sweep.figure(value, key), _FACTORS[key]) for key in FIGURES},
    }


def _median(found: Interval | None, factor: float) -> str:
    return "-" if found is None else number(found.median * factor)


PAGE = Page(folder=Path(__file__).parent, title="Sweeps", heading="How many requests in flight", contents=_contents)

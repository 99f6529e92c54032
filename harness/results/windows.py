"""The rate of a stream over time: of each step, and how it spreads."""

import statistics
from collections.abc import Iterator, Sequence

from harness.results.sample import Window
from harness.results.text import bar

_LINES = 10


def rates(windows: Sequence[Window]) -> list[float]:
    """Return the rate of each step, in 10^9 bits of the final arrays per second."""
    return [window.array_bytes * 8e-9 / window.seconds for window in windows]


def quantiles(windows: Sequence[Window]) -> dict[str, float]:
    """Return the 5 %, 50 % and 95 % quantiles of the steps' rates, in 10^9 bits per second; empty of no steps."""
    found = rates(windows)
    if len(found) < 2:
        return dict.fromkeys(("p5", "p50", "p95"), found[0]) if found else {}
    cuts = statistics.quantiles(found, n=20, method="inclusive")
    return {"p5": cuts[0], "p50": cuts[9], "p95": cuts[18]}


def over_time(windows: Sequence[Window]) -> Iterator[str]:
    """Yield lines for a terminal: the quantiles of the rate, and its chart, some steps in a line; none of no steps."""
    if not windows:
        return
    of = quantiles(windows)
    yield f"Rate of {len(windows)} steps in Gbit/s: p5 {of['p5']:.2f}, p50 {of['p50']:.2f}, p95 {of['p95']:.2f}"
    lines = list(_lines(windows))
    most = max(rate for _, rate in lines)
    digits = 1 if lines[-1][0] >= 0.1 * len(lines) else 3  # so that no two lines have the same time
    for until, rate in lines:
        yield f"{until:8.{digits}f} s {rate:8.2f} {bar(rate / most)}"


def _lines(windows: Sequence[Window]) -> Iterator[tuple[float, float]]:
    """Yield the timed seconds until the end of each line's steps, and their rate."""
    until, in_line = 0.0, -(-len(windows) // _LINES)
    for at in range(0, len(windows), in_line):
        some = windows[at : at + in_line]
        seconds = sum(window.seconds for window in some)
        until += seconds
        yield until, sum(window.array_bytes for window in some) * 8e-9 / seconds

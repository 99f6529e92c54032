"""Two targets side by side: tails of times, and the rankings of readers that turn over between them.

A ranking turns over where one reader is faster than another at one target and slower at the other, for sure at both:
the intervals of the ratio by rounds leave out 1, and the ratio is farther from 1 than what matters to anybody.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from harness.results.cells import Cell, Workload
from harness.results.figures import ratio
from harness.results.intervals import COVERAGE, Interval
from harness.results.metrics import DEFAULT_METRIC
from harness.results.records import RowRecord
from harness.results.sample import NETWORK_LIMIT

SMALLEST = 0.03
"""Readers that differ by less are level."""

P95 = 0.95
FEWEST_OF_TAIL = 20
"""Samples from which a 95th percentile is told: of fewer it would be the slowest one."""


class Quantile(msgspec.Struct, frozen=True, kw_only=True):
    """A quantile of samples, and between which of them it lies with at least the usual confidence."""

    value: float
    low: float
    high: float | None
    """None where there are too few samples for an upper end."""
    count: int


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """Two readers whose ranking turns over."""

    workload: Workload
    faster: str
    """Of the two, the one that is faster at the first target."""
    slower: str
    here: Interval
    """Time of `faster` over that of `slower` at the first target: below 1."""
    there: Interval
    """The same at the second one: above 1."""


def p95(seconds: Sequence[float]) -> Quantile | None:
    """Return the 95th percentile of times; None where there are fewer than `FEWEST_OF_TAIL`.

    Its ends are order statistics: no assumption about the distribution.
    """
    count = len(seconds)
    if count < FEWEST_OF_TAIL:
        return None
    ordered = sorted(seconds)
    outside = (1 - COVERAGE) / 2
    at_most = list(itertools.accumulate(_chance(count, k) for k in range(count + 1)))
    low = max((k for k in range(count) if at_most[k] <= outside), default=0)
    high = next((k for k in range(count) if at_most[k] >= 1 - outside), None)
    return Quantile(
        value=ordered[math.ceil(P95 * count) - 1],
        low=ordered[low],
        high=None if high is None else ordered[high],
        count=count,
    )


def _chance(count: int, below: int) -> float:
    """Return the chance that exactly `below` of `count` values lie below the percentile."""
    return math.comb(count, below) * P95**below * (1 - P95) ** (count - below)


def tail(row: RowRecord) -> Quantile | None:
    """Return the 95th percentile of a row's times, of all its processes, in seconds."""
    return p95([sample.seconds for sample in row.samples])


def turned(
    here: Mapping[Workload, Mapping[str, Cell]], there: Mapping[Workload, Mapping[str, Cell]]
) -> Iterator[Turned]:
    """Yield the rankings that turn over, by workload.

    Parameters
    ----------
    here, there
        Rows by workload and reader, as `cells.by_workload` returns them, of two targets.
    """
    for workload, readers in here.items():
        both = [name for name in readers if name in there.get(workload, {}) and name != NETWORK_LIMIT]
        for one, other in itertools.permutations(both, 2):
            before, after = (
                ratio(of[workload][one].row, of[workload][other].row, DEFAULT_METRIC) for of in (here, there)
            )
            if before and after and turns_over(before, after):
                yield Turned(workload=workload, faster=one, slower=other, here=before, there=after)


def turns_over(here: Interval, there: Interval) -> bool:
    """Return whether a ratio of two readers is below 1 at one target and above it at the other, for sure at both."""
    below = here.sure and here.high < 1 and here.median < 1 / (1 + SMALLEST)
    return below and there.sure and there.low > 1 and there.median > 1 + SMALLEST

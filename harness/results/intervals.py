"""Medians with their intervals, and ratios of two rows of a pass."""

import functools
import math
import statistics
from collections.abc import Iterable
from typing import Literal

import msgspec

from harness.results.metrics import DEFAULT_METRIC, Direction, quotient, values
from harness.results.records import RowRecord
from harness.results.sample import NETWORK_LIMIT

COVERAGE = 0.95
"""What an interval covers at least."""

FEWEST = 6
"""Values from which a median has an interval: all of fewer, from the lowest to the highest, cover less."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median, and between what it lies."""

    median: float
    """Of samples; of a verdict's ratio it is the mean of the blocks' medians."""
    low: float
    """Infinite, as `high`, where there is no interval."""
    high: float
    coverage: float
    """Chance that an interval made this way holds the true median, at least; 0 where there is none."""
    count: int
    """Independent values that it rests on: samples, ratios of rounds, blocks."""

    @property
    def sure(self) -> bool:
        """Whether there is an interval: without one nothing can be concluded."""
        return self.coverage > 0

    def improves(self, better: Direction) -> Literal["better", "worse", ""]:
        """Say whether this ratio is better or worse for sure, where `better` is the better direction of its metric."""
        if not better or not self.sure or self.low <= 1 <= self.high:
            return ""
        return "better" if (self.median < 1) == (better == "lower") else "worse"

    def apart(self, other: "Interval") -> bool:
        """Whether the two intervals share no value."""
        return self.high < other.low or other.high < self.low


@functools.cache
def rank(count: int) -> tuple[int, float]:
    """Return how many of `count` sorted values to leave out at each end, and what the rest covers.

    The interval of a median by order statistics: no assumption about the distribution. As many values are left out as
    `COVERAGE` allows; fewer than `FEWEST` can never cover it, and then none is.
    """
    below, left_out, outside = 0.0, 0, 2.0 * 0.5**count
    for k in range(count // 2):
        below += math.comb(count, k) * 0.5**count
        if k and 1 - 2 * below < COVERAGE:
            break
        left_out, outside = k, 2 * below
    return left_out, max(0.0, 1 - outside)


def without_interval(median: float, count: int) -> Interval:
    """Return a median of `count` values that has no interval."""
    return Interval(median=median, low=-math.inf, high=math.inf, coverage=0, count=count)


def interval(known: Iterable[float | None]) -> Interval | None:
    """Return the median of the values that are known, with its interval from `FEWEST` on; None when none is."""
    found = sorted(value for value in known if value is not None)
    if not found:
        return None
    if len(found) < FEWEST:
        return without_interval(statistics.median(found), len(found))
    left_out, coverage = rank(len(found))
    return Interval(
        median=statistics.median(found),
        low=found[left_out],
        high=found[-1 - left_out],
        coverage=coverage,
        count=len(found),
    )


def ratio(row: RowRecord, base: RowRecord, key: str) -> Interval | None:
    """Return a row's metric over that of a base row of the same pass, paired by round; None where it is unknown.

    The network limit's samples are not one per round: a time is compared with the limit around each sample, and other
    metrics by their medians, without an interval (count 0).
    """
    if NETWORK_LIMIT not in (row.reader, base.reader):
        # A reader that was given up has no samples at all, so that rounds never shift.
        return interval(quotient(a, b) for a, b in zip(values(row, key), values(base, key), strict=False))
    if key == DEFAULT_METRIC and row.reader != base.reader:
        if row.reader == NETWORK_LIMIT:
            return interval(quotient(1, slower) for slower in values(base, "times_slower"))
        return interval(values(row, "times_slower"))
    one, other = interval(values(row, key)), interval(values(base, key))
    over = quotient(one.median, other.median) if one and other else None
    return None if over is None else without_interval(over, 0)


def over(new: Interval, old: Interval) -> Interval | None:
    """Return the ratio of two medians of different passes; None where it is unknown.

    Both medians may lie anywhere in their intervals: wider than need be, and so never falsely sure.
    """
    if not old.median:
        return None
    median, count = new.median / old.median, min(new.count, old.count)
    if old.low <= 0 or not (new.sure and old.sure):
        return without_interval(median, count)
    covered = max(0.0, new.coverage + old.coverage - 1)
    return Interval(median=median, low=new.low / old.high, high=new.high / old.low, coverage=covered, count=count)

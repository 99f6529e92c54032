"""Medians with their intervals."""

import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from harness.results.metrics import Direction

COVERAGE = 0.95
"""What an interval covers at least."""

FEWEST = 6
"""Values from which a median has an interval: all of fewer, from the lowest to the highest, cover less."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A median, and between what it lies."""

    median: float
    """Of processes' medians, or of the samples of the only process; of a verdict's ratio the mean of the blocks'."""
    low: float
    """Infinite, as `high`, where there is no interval."""
    high: float
    coverage: float
    """Chance that an interval made this way holds the true median, at least; 0 where there is none."""
    count: int
    """Values that it rests on: processes, samples of the only process, blocks."""
    processes: int | None = None
    """Fresh processes that the values come from; None where it is not made of samples.

    Of a single one the interval says nothing of how processes differ.
    """

    @property
    def sure(self) -> bool:
        """Whether there is an interval: without one nothing can be concluded."""
        return self.coverage > 0

    def improves(self, better: Direction) -> Literal["better", "worse", ""]:
        """Say whether this ratio is better or worse for sure, where `better` is the better direction of its metric."""
        if not better or not self.sure or self.low <= 1 <= self.high:
            return ""
        return "better" if (self.median < 1) == (better == "lower") else "worse"

    def apart(self, other: "Interval", times: float = 1.0) -> bool:
        """Whether the two intervals share no value, and even their nearer ends differ by more than so many times."""
        return self.high * times < other.low or other.high * times < self.low


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


def without_interval(median: float, count: int, processes: int | None = None) -> Interval:
    """Return a median of `count` values that has no interval."""
    return Interval(median=median, low=-math.inf, high=math.inf, coverage=0, count=count, processes=processes)


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


def of_processes(values: Iterable[Sequence[float | None]]) -> Interval | None:
    """Return the median of the processes' medians, with its interval; of a single process that of its values.

    Values of one process are not independent of each other, so that each process counts once.

    Parameters
    ----------
    values
        Of each process; None where one is unknown.
    """
    known = [found for of in values if (found := [value for value in of if value is not None])]
    made = interval(known[0] if len(known) == 1 else map(statistics.median, known))
    return None if made is None else msgspec.structs.replace(made, processes=len(known))


def over(new: Interval, old: Interval) -> Interval | None:
    """Return the ratio of two medians of different passes; None where it is unknown.

    Both medians may lie anywhere in their intervals: wider than need be, and so never falsely sure.
    """
    if not old.median:
        return None
    median, count = new.median / old.median, min(new.count, old.count)
    processes = None if new.processes is None or old.processes is None else min(new.processes, old.processes)
    if old.low <= 0 or not (new.sure and old.sure):
        return without_interval(median, count, processes)
    return Interval(
        median=median,
        low=new.low / old.high,
        high=new.high / old.low,
        coverage=max(0.0, new.coverage + old.coverage - 1),
        count=count,
        processes=processes,
    )

"""What alternating pairs allow to say: an interval that may be looked at while it grows, and one of four answers.

docs/verdicts.md states the method, why it was chosen and how often it errs. In short: the figure of a pair is the
logarithm of head's seconds over base's; what is estimated is its median. The interval is the distribution-free one
of order statistics, exact for whatever distribution the noise has. Looking several times, and at several
workloads, costs: every look of every workload gets its share of the error that one verdict may make.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

ERROR_RATE = 0.01
"""Chance that a verdict calls anything faster or slower although nothing differs."""
SMALLEST_EFFECT = 0.03
"""A difference below this does not matter to anybody."""
LOOKS = (12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Numbers of pairs after which the interval is looked at."""


class Answer(enum.StrEnum):
    """What is said of one workload."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference"
    UNKNOWN = "not enough data"


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Head's seconds over base's: the median ratio and bounds that hold with `confidence`."""

    ratio: float
    low: float
    high: float
    confidence: float
    pairs: int


def confidence_of_a_look(comparisons: int, *, looks: int = len(LOOKS), error_rate: float = ERROR_RATE) -> float:
    """Return the confidence that each interval needs so that a whole verdict errs at most at `error_rate`.

    Parameters
    ----------
    comparisons
        Workloads times readers in the verdict.
    looks
        Times that each may be looked at (Bonferroni: valid however the looks depend on each other).
    error_rate
        Of the whole verdict.
    """
    return 1.0 - error_rate / (max(1, comparisons) * looks)


def interval(log_ratios: Sequence[float], confidence: float) -> Interval | None:
    """Return the interval of the median ratio, or None where there are too few pairs for `confidence`.

    Parameters
    ----------
    log_ratios
        ``log(head seconds / base seconds)`` of each pair.
    confidence
        Chance that the bounds enclose the true median, at least.
    """
    found = stats.quantile_test(log_ratios, q=0.0, p=0.5).confidence_interval(confidence_level=confidence)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return None
    return Interval(
        ratio=math.exp(float(np.median(log_ratios))),
        low=math.exp(found.low),
        high=math.exp(found.high),
        confidence=confidence,
        pairs=len(log_ratios),
    )


def answer(found: Interval | None, smallest: float = SMALLEST_EFFECT) -> Answer:
    """Return what may be said of an interval.

    An interval within the smallest effect that matters says that there is no difference larger than that, even where
    it excludes 1: a sure difference of half a percent is none.
    """
    if found is None:
        return Answer.UNKNOWN
    if found.high <= 1 + smallest and found.low >= 1 / (1 + smallest):
        return Answer.SAME
    if found.high < 1:
        return Answer.FASTER
    if found.low > 1:
        return Answer.SLOWER
    return Answer.UNKNOWN


def next_look(pairs: int) -> int | None:
    """Return the number of pairs at which to look next, or None when the looks are used up."""
    return next((look for look in LOOKS if look > pairs), None)

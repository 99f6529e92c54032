"""What alternating pairs allow to say: intervals that may be looked at while they grow, and one of four answers.

docs/verdicts.md states the method, why it was chosen and how often it errs. In short: the figure of a pair is the
logarithm of head's seconds over base's; what is estimated is its median. The interval is the distribution-free one
of order statistics, exact for whatever distribution the noise has. Looking several times costs: every look gets its
share of the error that may be made. "Faster" and "slower" may be wrong anywhere in a verdict only as often as its
error rate allows, so they also pay for the number of workloads; "no difference" answers for its own workload.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.results.intervals import Interval

ERROR_RATE = 0.01
"""Chance that a verdict calls anything faster or slower although nothing differs."""
SMALLEST_EFFECT = 0.03
"""A difference below this does not matter to anybody."""
LOOKS = (16, 24, 40, 64, 104, 168, 272, 440, 712, 1152)
"""Numbers of pairs after which the interval is looked at."""


class Answer(enum.StrEnum):
    """What is said of one workload."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference"
    UNKNOWN = "not enough data"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one look at the pairs allows to say, and the interval that says it."""

    answer: Answer
    interval: Interval | None
    """Of the ratio of head's seconds to base's; it covers the confidence that was asked for."""


def confidence_of_a_look(comparisons: int = 1, *, error_rate: float = ERROR_RATE) -> float:
    """Return the confidence that each interval needs so that all looks together err at most at `error_rate`.

    Parameters
    ----------
    comparisons
        Workloads times readers that share the error rate (Bonferroni: valid however they depend on each other).
    error_rate
        Of all of them together.
    """
    return 1.0 - error_rate / (max(1, comparisons) * len(LOOKS))


def interval(log_ratios: Sequence[float], confidence: float) -> Interval | None:
    """Return the interval of the median ratio, or None where there are too few pairs for `confidence`.

    Parameters
    ----------
    log_ratios
        ``log(head seconds / base seconds)`` of each pair.
    confidence
        Chance that the bounds enclose the true median, at least.
    """
    from scipy import stats  # slow to import, and every command imports this module

    found = stats.quantile_test(log_ratios, q=0.0, p=0.5).confidence_interval(confidence_level=confidence)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return None
    return Interval(
        median=math.exp(float(np.median(log_ratios))),
        low=math.exp(found.low),
        high=math.exp(found.high),
        coverage=confidence,
        count=len(log_ratios),
    )


def judge_pairs(
    log_ratios: Sequence[float],
    comparisons: int,
    *,
    smallest: float = SMALLEST_EFFECT,
    error_rate: float = ERROR_RATE,
) -> Judgement:
    """Return what the pairs so far allow to say.

    An interval within the smallest effect that matters says that there is no difference larger than that, even where
    it excludes 1: a sure difference of half a percent is none.
    """
    own = interval(log_ratios, confidence_of_a_look(error_rate=error_rate))
    if own is not None and is_within(own, smallest):
        return Judgement(answer=Answer.SAME, interval=own)
    shared = interval(log_ratios, confidence_of_a_look(comparisons, error_rate=error_rate))
    answer = Answer.UNKNOWN if shared is None else side_of_equal(shared)
    return Judgement(answer=answer, interval=own if answer is Answer.UNKNOWN else shared)


def is_within(found: Interval, smallest: float) -> bool:
    """Whether all of an interval is nearer to equal speed than the smallest effect that matters."""
    return found.high <= 1 + smallest and found.low >= 1 / (1 + smallest)


def side_of_equal(found: Interval) -> Answer:
    """Return faster or slower where all of an interval lies on one side of equal speed."""
    if found.high < 1:
        return Answer.FASTER
    return Answer.SLOWER if found.low > 1 else Answer.UNKNOWN


def next_look(pairs: int) -> int | None:
    """Return the number of pairs at which to look next, or None when the looks are used up."""
    return next((look for look in LOOKS if look > pairs), None)

"""What blocks of alternating pairs allow to say: intervals that may be looked at while they grow, and an answer.

docs/verdicts.md states the method, why it was chosen and how often it errs. In short: the figure of a pair is the
logarithm of head's seconds over base's. Pairs that share their two processes share what those processes happen to
be, so they are no independent evidence: the unit is the block, two new processes and a few pairs, and its figure is
the median of its pairs. The interval is Student's of the mean of block medians, widened for blocks that follow each
other closely in time. Looking several times costs: every look gets its share of the error that may be made. "Faster"
and "slower" may be wrong anywhere in a verdict only as often as its error rate allows, so they also pay for the number
of workloads; "no difference" answers for its own workload.
"""

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from harness.results.intervals import Interval

ERROR_RATE = 0.01
"""Chance that a verdict calls anything faster or slower although nothing differs."""
SMALLEST_EFFECT = 0.03
"""A difference below this does not matter to anybody."""
PAIRS_PER_BLOCK = 4
LOOKS = (6, 9, 14, 21, 32, 48, 72, 108)
"""Numbers of blocks after which the interval is looked at."""
NEIGHBOURS = 1.21
"""By how much the standard error is widened, since the noise of pairs that follow each other may go together.

Where neighbouring pairs correlate by 0.5, the means of neighbouring blocks of four correlate by 0.21, and the mean of
many blocks spreads by 1.21 times what independent ones would.
"""


class Answer(enum.StrEnum):
    """What is said of one workload."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference"
    UNKNOWN = "not enough data"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one look at the blocks allows to say, and the interval that says it."""

    answer: Answer
    interval: Interval | None
    """Of the ratio of head's seconds to base's; it covers the confidence that was asked for."""


def confidence_of_a_look(comparisons: int = 1) -> float:
    """Return the confidence that each interval needs so that all looks together err at most at `ERROR_RATE`.

    Parameters
    ----------
    comparisons
        Workloads times readers that share the error rate (Bonferroni: valid however they depend on each other).
    """
    return 1.0 - ERROR_RATE / (max(1, comparisons) * len(LOOKS))


def interval(medians: Sequence[float], confidence: float) -> Interval | None:
    """Return the interval of the typical ratio, or None where there are fewer than two blocks.

    Parameters
    ----------
    medians
        Of each block, of ``log(head seconds / base seconds)``.
    confidence
        Chance that the bounds enclose the true value, at least.
    """
    from scipy import stats  # slow to import, and every command imports this module

    count = len(medians)
    if count < 2:
        return None
    middle = statistics.fmean(medians)
    error = NEIGHBOURS * statistics.stdev(medians) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    return Interval(
        median=math.exp(middle),
        low=math.exp(middle - reach),
        high=math.exp(middle + reach),
        coverage=confidence,
        count=count,
    )


def judge_blocks(
    blocks: Sequence[Sequence[float]], comparisons: int, *, smallest: float = SMALLEST_EFFECT
) -> Judgement:
    """Return what the blocks so far allow to say; nothing before the first of `LOOKS`.

    An interval within the smallest effect that matters says that there is no difference larger than that, even where
    it excludes 1: a sure difference of half a percent is none. One that excludes 1 before it is so narrow says faster
    or slower, so that a difference of two percent may be called either (docs/verdicts.md has how often).

    Parameters
    ----------
    blocks
        ``log(head seconds / base seconds)`` of each block's pairs.
    comparisons
        Workloads times readers of the verdict, which share the error rate.
    smallest
        The smallest relative difference that matters.
    """
    if len(blocks) < LOOKS[0]:
        return Judgement(answer=Answer.UNKNOWN, interval=None)
    medians = [statistics.median(block) for block in blocks]
    own = interval(medians, confidence_of_a_look())
    if own is not None and is_within(own, smallest):
        return Judgement(answer=Answer.SAME, interval=own)
    shared = interval(medians, confidence_of_a_look(comparisons))
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


def likely_look(found: Interval, comparisons: int, *, smallest: float = SMALLEST_EFFECT) -> int | None:
    """Return the first later look that is likely to answer, if blocks go on as they did; None where none is.

    Parameters
    ----------
    found
        What the last look left open: its `coverage` and `count` are those of that look.
    comparisons
        Workloads times readers of the verdict.
    smallest
        The smallest relative difference that matters.
    """
    from scipy import stats  # slow to import, and every command imports this module

    middle, reach = abs(math.log(found.high * found.low)) / 2, math.log(found.high / found.low) / 2
    spread = reach * math.sqrt(found.count) / stats.t.ppf((1 + found.coverage) / 2, found.count - 1)
    for look in (look for look in LOOKS if look > found.count):
        own, shared = (
            spread / math.sqrt(look) * stats.t.ppf((1 + confidence_of_a_look(shares)) / 2, look - 1)
            for shares in (1, comparisons)
        )
        if middle + own <= math.log1p(smallest) or shared < middle:
            return look
    return None


def last_look(blocks: int) -> int:
    """Return how many of the blocks the last look saw; 0 before the first."""
    return max((look for look in LOOKS if look <= blocks), default=0)


def next_look(blocks: int) -> int | None:
    """Return the number of blocks at which to look next, or None when the looks are used up."""
    return next((look for look in LOOKS if look > blocks), None)

"""What recording costs: recorded and plain executions in turns, compared pair by pair."""

import statistics
from collections.abc import Callable

from harness.timeline.model import Overhead

DEFAULT_PAIRS = 5


def measure(pairs: int, *, plain: Callable[[], float], recorded: Callable[[], float]) -> Overhead | None:
    """Execute `pairs` pairs, each in the other order than the one before, so that drift favours neither.

    Parameters
    ----------
    pairs
        How many; None is returned for 0.
    plain, recorded
        Execute once and return the seconds.
    """
    seconds: dict[Callable[[], float], list[float]] = {plain: [], recorded: []}
    for number in range(pairs):
        for execute in (plain, recorded) if number % 2 else (recorded, plain):
            seconds[execute].append(execute())
    if not pairs:
        return None
    ratios = [r / p for r, p in zip(seconds[recorded], seconds[plain], strict=True)]
    return Overhead(
        pairs=pairs,
        plain_seconds=statistics.median(seconds[plain]),
        recorded_seconds=statistics.median(seconds[recorded]),
        ratio=statistics.median(ratios),
        ratio_low=min(ratios),
        ratio_high=max(ratios),
    )

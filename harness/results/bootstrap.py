"""The interval of a ratio of medians, by a hierarchical bootstrap: processes are drawn first, then rounds of each.

Rounds of one process share what that process happens to be, so they are no independent evidence of it. Percentiles of
few processes are too narrow, as a normal interval is where Student's is right: they are expanded to where Student's
would end (Hesterberg 2015, "What teachers should know about the bootstrap", the expanded percentile interval). The
tests simulate what it covers; docs/metrics.md says it.
"""

import functools
import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.results.intervals import COVERAGE, FEWEST, Interval, without_interval

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_REPLICATES = 2000
_SEED = 0
"""The same data have the same interval, whoever looks."""

Round = tuple[float, float]
"""What was measured of numerator and denominator in the same round."""


def ratio_of_medians(processes: Sequence[Sequence[Round]]) -> Interval | None:
    """Return the ratio of two medians that were measured in the same rounds; None without any round.

    A median is that of the processes' own medians, so that each process counts once.

    Parameters
    ----------
    processes
        Of each process its rounds, numerator and denominator in the same unit; positive.

    Returns
    -------
    Its `count` are processes, or the rounds of the only one. Fewer than `FEWEST` have no interval.
    """
    known = tuple(tuple(rounds) for rounds in processes if rounds)
    return _ratio(known) if known else None


@functools.lru_cache(maxsize=4096)  # a page shows a row several times
def _ratio(known: tuple[tuple[Round, ...], ...]) -> Interval:
    above, below = (statistics.median(_medians(known, place)) for place in (0, 1))
    count = len(known) if len(known) > 1 else len(known[0])
    if count < FEWEST:
        return without_interval(above / below, count, processes=len(known))
    low, high = _expanded_percentiles(_replicates(known), count)
    return Interval(median=above / below, low=low, high=high, coverage=COVERAGE, count=count, processes=len(known))


def _medians(processes: Sequence[Sequence[Round]], place: int) -> list[float]:
    return [statistics.median(one[place] for one in rounds) for rounds in processes]


def _replicates(processes: Sequence[Sequence[Round]]) -> "npt.NDArray[np.float64]":
    """Return the ratio of each bootstrap replicate."""
    import numpy as np  # asv's process per row only looks lists up

    sizes = np.array([len(rounds) for rounds in processes])
    widest = int(sizes.max())
    table = np.full((2, len(processes), widest), np.inf)
    for place, rounds in enumerate(processes):
        table[:, place, : len(rounds)] = np.transpose(rounds)
    draw = np.random.default_rng(_SEED)
    chosen = draw.integers(len(processes), size=(_REPLICATES, len(processes)))
    size = sizes[chosen][..., None]
    rounds_chosen = (draw.random((*chosen.shape, widest)) * size).astype(int)
    picked = table[:, chosen[..., None], rounds_chosen]
    picked[:, np.arange(widest) >= size] = np.inf  # shorter processes end early; the median never reaches these
    picked.sort(axis=-1)
    middle = [np.take_along_axis(picked, at[None], axis=-1)[..., 0] for at in ((size - 1) // 2, size // 2)]
    above, below = np.median((middle[0] + middle[1]) / 2, axis=-1)
    ratios: npt.NDArray[np.float64] = above / below
    return ratios


def _expanded_percentiles(replicates: "npt.NDArray[np.float64]", count: int) -> tuple[float, float]:
    import numpy as np
    from scipy.special import stdtrit  # slow to import, and every command imports this module

    reach = float(stdtrit(count - 1, (1 + COVERAGE) / 2)) * math.sqrt(count / (count - 1))
    outside = statistics.NormalDist().cdf(-reach)
    low, high = np.quantile(replicates, (outside, 1 - outside))
    return float(low), float(high)

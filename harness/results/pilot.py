"""How many samples a figure takes, from the spread of the first ones.

Times are taken for log-normal: the median of n values whose logarithms have the standard deviation s lies within
``exp(+-1.96 * 1.2533 * s / sqrt(n))`` of the true one in 95 of 100 cases. s is taken from the
middle of the samples, since the interval of a median does not care for how slow the slowest ones are.
"""

import math
import statistics
from collections.abc import Mapping, Sequence

import msgspec

from harness.results.intervals import COVERAGE, FEWEST
from harness.results.sample import Sample
from harness.results.sessions import by_session

WITHIN = 0.05
"""How near the true median the measured one is to be, as a part of it."""

_FEWEST_TO_JUDGE = 3
_MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
"""Standard error of a median over that of a mean, of normal values."""
_DEVIATION_TO_SPREAD = 1.4826
"""Standard deviation over median deviation, of normal values."""


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """How many values bring the median to within `WITHIN`, with the usual confidence."""

    count: int
    unit: str
    """``samples`` of one process, or ``processes``."""
    judged: int
    """Values that this is judged by."""

    @property
    def words(self) -> str:
        """The same in a phrase."""
        return f"+-{100 * WITHIN:.0f} % takes about {self.count} {self.unit} (from the spread of {self.judged})"


def sentence(samples: Mapping[str, Sequence[Sample]]) -> str | None:
    """Say how many samples the reader takes that spreads the most; None where there are too few to judge by.

    Parameters
    ----------
    samples
        Of each reader on one workload.
    """
    known = {reader: found for reader, of in samples.items() if (found := needed_of(of)) is not None}
    if not known:
        return None
    reader = max(known, key=lambda name: known[name].count)
    return f"{reader} spreads the most: {known[reader].words}"


def needed_of(samples: Sequence[Sample]) -> Needed | None:
    """Return how many samples, or processes, a row takes."""
    return needed([[sample.seconds for sample in of] for of in by_session(samples)])


def needed(processes: Sequence[Sequence[float]]) -> Needed | None:
    """Return how many values it takes; None where there are too few to judge by.

    Of several processes their medians are judged, since each is one value; of a single one its samples.

    Parameters
    ----------
    processes
        Times of each process, in seconds.
    """
    if not processes:
        return None
    values = processes[0] if len(processes) == 1 else [statistics.median(of) for of in processes]
    if len(values) < _FEWEST_TO_JUDGE:
        return None
    reach = statistics.NormalDist().inv_cdf((1 + COVERAGE) / 2) * _MEDIAN_OVER_MEAN * _spread(values)
    count = math.ceil((reach / math.log1p(WITHIN)) ** 2)
    unit = "samples" if len(processes) == 1 else "processes"
    return Needed(count=max(FEWEST, count), unit=unit, judged=len(values))


def _spread(values: Sequence[float]) -> float:
    """Return the standard deviation of the logarithms by their median deviation, which outliers do not move."""
    logs = list(map(math.log, values))
    middle = statistics.median(logs)
    deviation = statistics.median(abs(one - middle) for one in logs)
    return _DEVIATION_TO_SPREAD * deviation * len(logs) / (len(logs) - 0.8)  # small samples: Croux and Rousseeuw 1992

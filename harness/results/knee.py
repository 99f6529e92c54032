"""The knee of a sweep: the smallest value that is nearly as fast as the best, with its interval."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from harness.results.intervals import COVERAGE, FEWEST

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

NEARLY = 0.05
"""How much of the best throughput may be missing at the knee."""

_REPLICATES = 1000
_SEED = 0
"""The same data have the same interval, whoever looks."""

Rounds = Sequence[Sequence[float | None]]
"""Seconds by round and value; None where a value sat a round out."""


class Knee(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest value whose throughput is within `NEARLY` of the best."""

    value: int
    low: int | None
    """Ends of the interval, values of the sweep; None with fewer than `FEWEST` rounds or processes."""
    high: int | None
    count: int
    """Processes that it rests on, or rounds of the only one."""
    best: int
    """The value with the best throughput."""
    is_last: bool
    """Whether it is the largest value that was measured, so that more may be faster still."""

    @property
    def sure(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None

    def is_at(self, value: int) -> bool:
        """Whether a value is the knee; the largest that was measured is none, since more may be faster still."""
        return value == self.value and not self.is_last


def knee(values: Sequence[int], processes: Sequence[Rounds]) -> Knee | None:
    """Return the knee of medians, with an interval by a bootstrap over processes and rounds; None without a sample.

    A replicate draws processes, then rounds of each, for all values together: rounds are shared, so that what drifted
    hits all values of a replicate alike.

    Parameters
    ----------
    values
        In ascending order.
    processes
        Of each process, or of the processes that ran at the same time, its rounds.
    """
    measured = [place for place in range(len(values)) if _known(processes, place)]
    if not measured:
        return None
    kept = tuple(tuple(tuple(one[place] for place in measured) for one in of) for of in processes if of)
    return _knee(tuple(values[place] for place in measured), kept)


def _known(processes: Sequence[Rounds], place: int) -> bool:
    return any(one[place] is not None for of in processes for one in of)


@functools.lru_cache(maxsize=1024)
def _knee(values: tuple[int, ...], processes: tuple[tuple[tuple[float | None, ...], ...], ...]) -> Knee:
    import numpy as np

    tables = [np.array(of, dtype=float) for of in processes]
    medians = _medians(tables)
    count = len(tables) if len(tables) > 1 else len(tables[0])
    low = high = None
    if count >= FEWEST:
        places = _replicates(tables, medians)
        outside = (1 - COVERAGE) / 2
        low, high = (values[int(end)] for end in np.quantile(places, (outside, 1 - outside), method="nearest"))
    place = _place(medians)
    return Knee(
        value=values[place],
        low=low,
        high=high,
        count=count,
        best=values[int(medians.argmin())],
        is_last=place == len(values) - 1 and len(values) > 1,
    )


def _place(medians: "npt.NDArray[np.float64]") -> int:
    """Return the first place whose throughput is nearly the best."""
    return int((medians <= medians.min() / (1 - NEARLY)).argmax())


def _medians(tables: Sequence["npt.NDArray[np.float64]"]) -> "npt.NDArray[np.float64]":
    """Return the median of the processes' medians of each value; nan where none of them knows it."""
    import numpy as np

    of_each = [_column_medians(table) for table in tables]
    return _column_medians(np.array(of_each))


def _column_medians(table: "npt.NDArray[np.float64]") -> "npt.NDArray[np.float64]":
    """Return the median of what is known of each column; nan where nothing is."""
    import numpy as np

    columns = (column[~np.isnan(column)] for column in table.T)
    return np.array([np.median(known) if known.size else np.nan for known in columns])


def _replicates(tables: Sequence["npt.NDArray[np.float64]"], medians: "npt.NDArray[np.float64]") -> list[int]:
    """Return the knee's place in each replicate; a value that a replicate has no round of has its own median."""
    import numpy as np

    draw = np.random.default_rng(_SEED)
    places = []
    for _ in range(_REPLICATES):
        chosen = draw.integers(len(tables), size=len(tables)) if len(tables) > 1 else [0]
        drawn = [tables[one][draw.integers(len(tables[one]), size=len(tables[one]))] for one in chosen]
        found = _medians(drawn)
        places.append(_place(np.where(np.isnan(found), medians, found)))
    return places

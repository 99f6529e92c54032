"""Cold executions: each turn of a round reads objects that no other turn of it reads, and warms up on others again."""

import itertools
from collections.abc import Iterator

from harness.errors import UnsupportedError
from harness.workload.create import elsewhere
from harness.workload.model import Workload


class Rotation:
    """A workload on disjoint objects, one set for each turn of a round.

    Parameters
    ----------
    workload
        What warm-ups read; it is never timed.
    turns
        Timed executions of a round.

    Raises
    ------
    UnsupportedError
        The array has too few shards, or its chunks' truth is unknown elsewhere; the message is the reason.
    """

    def __init__(self, workload: Workload, turns: int) -> None:
        others = elsewhere(workload, turns)
        if len(others) < turns:
            raise UnsupportedError(
                f"a round of {turns} executions takes as many disjoint sets of objects beside that of warm-ups, and "
                f"there are {len(others)}"
            )
        self.warm_up = workload
        self._next: Iterator[Workload] = itertools.cycle(others)

    def next(self) -> Workload:
        """Return what the next timed execution reads: again only after all others."""
        return next(self._next)

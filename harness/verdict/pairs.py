"""Pairs: both sides of a comparison execute the same workload in turns, in random order, the other side idle.

Each side has one worker process at a time. A block is a number of pairs with the same two processes; the next block
starts new ones, so that what a process happens to be (its memory's layout, its connections, the name of the folder
that it imports from) is drawn anew and cannot be mistaken for a difference between the sides.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import msgspec

from harness.errors import MeasurementError, UnsupportedError, blamed
from harness.measure.evidence import Probe
from harness.measure.execution import OPEN_SECONDS, Candidate, executed, turn_deadline, warm_up
from harness.measure.process import WorkerProcess
from harness.measure.timelines import answered, with_header
from harness.readers import reader_class
from harness.readers.tunings import given_for
from harness.results.sample import Sample
from harness.store.control import LoggedRequest
from harness.timeline.model import Timeline
from harness.timeline.validity import validate, wanted
from harness.verdict.sides import Side
from harness.verdict.statistics import PAIRS_PER_BLOCK
from harness.workload.model import Workload

_SIDES = ("base", "head")


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of each side, right after one another."""

    block: int
    head_first: bool
    base: Sample
    head: Sample

    @property
    def log_ratio(self) -> float:
        """Natural logarithm of head's seconds over base's."""
        return math.log(self.head.seconds / self.base.seconds)


class Ranges(msgspec.Struct, frozen=True, kw_only=True):
    """What one execution asked of the store, in the order of keys and offsets."""

    requests: list[tuple[str, str, str, tuple[int, int] | None]]
    """Method, key, kind, half-open bytes of the object."""


class SideFailedError(MeasurementError):
    """One side raised, returned something wrong or died; nothing is said of the other."""

    def __init__(self, side: str, reason: str) -> None:
        super().__init__(blamed(f"{side} failed", reason))


@dataclass
class PairedRuns:
    """Takes pairs of one reader and one workload; use it as a context manager."""

    reader: str
    workload: Workload
    sides: Mapping[str, Side]
    """``base`` and ``head``."""
    seed: int = 0
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    _workers: dict[str, WorkerProcess] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed} {self.reader} {self.workload.digest}")  # noqa: S311 - an order
        self._probe = Probe(self.workload.target)
        self._links = TemporaryDirectory(prefix="zcb-sides-")

    def pairs(self) -> Iterator[Pair]:
        """Yield pairs without end.

        Raises
        ------
        SideFailedError
            A side cannot be measured; its reason is the library's.
        UnsupportedError
            A side cannot do this workload at all.
        """
        block = 0
        while True:
            self._restart()
            for _ in range(PAIRS_PER_BLOCK):
                yield self._pair(block)
            block += 1

    def plan_of(self, side: str) -> Ranges | None:
        """Return what `side` asks of the store in one execution, or None where the store cannot tell."""
        if not self._workers:
            self._restart()
        log = self._probe.logged(lambda: self._ask(side, {"op": "sample", "discard": True}, self._deadline))
        return None if log is None else Ranges(requests=sorted(map(_request, log), key=_order))

    def timeline_of(self, side: str) -> Timeline | None:
        """Record one more execution of `side`, or return None where that cannot be done validly: it decides nothing.

        Ask after the last pair: its process has opened the array under the recorder then.
        """
        try:
            if not self._workers:
                self._restart()
            self._ask(side, {"op": "timeline", "discard": True}, self._deadline)
            self._probe.begin()
            timeline = answered(self._ask(side, {"op": "timeline"}, self._deadline), self.workload)
            counted = self._probe.end().store
        except (UnsupportedError, MeasurementError):
            return None
        timeline = with_header(timeline, self.workload, reader=self.reader, versions=self.versions[side])
        timeline.valid = validate(timeline, wanted(self.workload), counted=counted)
        return timeline if timeline.valid.ok else None

    @property
    def _deadline(self) -> float:
        return turn_deadline(self.workload)

    def _pair(self, block: int) -> Pair:
        self._probe.round_number += 1
        head_first = self._random.random() < 0.5
        samples = {side: self._sample(side) for side in (reversed(_SIDES) if head_first else _SIDES)}
        return Pair(block=block, head_first=head_first, **samples)

    def _sample(self, side: str) -> Sample:
        """Execute twice, the first time to warm up, and return the second execution's sample."""
        candidate = Candidate(self.reader)
        self._told_of(side, lambda worker: warm_up(worker, candidate, self.workload))
        return self._told_of(side, lambda worker: executed(worker, candidate, self.workload, self._probe))

    def _restart(self) -> None:
        self._stop()
        order = self._random.sample(_SIDES, len(_SIDES))
        reader = reader_class(self.reader)
        given = given_for(reader, self.workload)
        for side in order:  # both start at once: a block pays for one start
            self._workers[side] = WorkerProcess(reader, self._environment(side), given)
        for side in order:
            opened = self._told_of(side, lambda worker: worker.open(self.workload, timeout=OPEN_SECONDS))
            self.versions[side] = opened["versions"]

    def _environment(self, side: str) -> Mapping[str, str]:
        """Return a side's variables, its folder under a name that is drawn and has the same length on both sides."""
        of = self.sides[side]
        if of.overlay is None:
            return of.environment
        link = Path(self._links.name, f"{self._random.getrandbits(64):016x}")
        link.symlink_to(of.overlay, target_is_directory=True)
        return {**of.environment, "PYTHONPATH": of.environment["PYTHONPATH"].replace(str(of.overlay), str(link))}

    def _ask(self, side: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        return self._told_of(side, lambda worker: worker.require(request, timeout=timeout))

    def _told_of[T](self, side: str, ask: Callable[[WorkerProcess], T]) -> T:
        """Return the answer of a side's process; its errors name the side."""
        try:
            return ask(self._workers[side])
        except MeasurementError as error:
            raise SideFailedError(side, str(error)) from error
        except UnsupportedError as reason:
            raise UnsupportedError(f"{side}: {reason}") from reason

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._links.cleanup()
        self._probe.__exit__(None, None, None)


def _request(logged: LoggedRequest) -> tuple[str, str, str, tuple[int, int] | None]:
    return logged.method, logged.key, logged.kind, logged.range


def _order(request: tuple[str, str, str, tuple[int, int] | None]) -> tuple[str, int, str]:
    method, key, _, span = request
    return key, span[0] if span else -1, method

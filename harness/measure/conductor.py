"""The conductor: lets readers take turns on the same workloads and puts the counters around each turn.

A round of a workload is: a network-limit turn, then for each reader in shuffled order its turn and another
network-limit turn. So drift of the machine hits all readers alike, and every sample stands between two limits.
"""

import contextlib
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.errors import MeasurementError, UnsupportedError, ZcbError
from harness.measure.evidence import Probe, make_sample, stand_against
from harness.measure.process import WorkerProcess
from harness.readers import NETWORK_LIMIT, reader_class
from harness.sample import Sample, Timed
from harness.workload import Workload

DEFAULT_SAMPLES = 15
"""Odd, so that the median is a sample; fewer than 7 can never be significant for asv."""

_OPEN_SECONDS = 120.0
_SECONDS_PER_GIB = 120.0
"""A turn slower than this (plus a constant) hangs rather than reads."""
_TURN_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    samples: int = DEFAULT_SAMPLES
    budget_seconds: float | None = None
    """No new round of a workload starts after this long, once it has `minimum` rounds; None is no budget."""
    minimum: int = 2
    seed: int = 0
    """Of the order in which readers take turns."""

    def enough(self, rounds: int, seconds: float) -> bool:
        """Whether a workload has been measured enough after `rounds` rounds that took `seconds`."""
        spent = self.budget_seconds is not None and seconds >= self.budget_seconds and rounds >= self.minimum
        return rounds >= self.samples or spent


@dataclass(kw_only=True)
class Row:
    """What was measured of one reader on one workload: samples, or why there are none."""

    reader: str
    workload: Workload
    versions: dict[str, str] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    na: str | None = None
    """Why the reader cannot do this workload."""
    error: str | None = None
    """Why the measurement failed; such a row has no samples."""

    @property
    def measured(self) -> bool:
        """Whether turns still make sense: nothing failed and the reader can do it."""
        return self.na is None and self.error is None

    def fail(self, reason: str) -> None:
        """Give the row up: a reader that failed once records nothing for this workload."""
        self.error = reason
        self.samples.clear()


class Conductor:
    """Owns one worker per reader over all workloads of a pass; use it as a context manager."""

    def __init__(self, readers: Sequence[str], *, plan: Plan, say: Callable[[str], None]) -> None:
        self._readers = [name for name in readers if name != NETWORK_LIMIT]
        self._plan = plan
        self._say = say
        self._random = random.Random(plan.seed)  # noqa: S311 - an order of turns, not a secret
        self._workers: dict[str, WorkerProcess] = {}
        self._variants: dict[str, Sequence[str]] = {}

    def __enter__(self) -> "Conductor":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()

    def measure(self, workload: Workload) -> list[Row]:
        """Return one row per reader for `workload`, the network limit's last.

        A reader that fails, hangs or dies costs its own row only; a failing network limit costs the ratios.
        """
        rows = {name: Row(reader=name, workload=workload) for name in (*self._readers, NETWORK_LIMIT)}
        with Probe(workload.target) as probe:
            for row in rows.values():
                with self._guard(row):
                    self._open(row)
            begin, rounds = time.monotonic(), 0
            while not self._plan.enough(rounds, time.monotonic() - begin) and self._left(rows):
                self._round(rows, probe)
                rounds += 1
                self._say(f"{workload.label}: round {rounds}: {_summary(rows.values())}")
        return list(rows.values())

    def _left(self, rows: dict[str, Row]) -> bool:
        """Whether any reader is still worth a round; the limit alone is so only when nothing else was asked for."""
        return any(rows[name].measured for name in self._readers or [NETWORK_LIMIT])

    def _round(self, rows: dict[str, Row], probe: Probe) -> None:
        order = [name for name in self._readers if rows[name].measured]
        self._random.shuffle(order)
        before = self._turn(rows[NETWORK_LIMIT], probe)
        for name in order:
            sample = self._turn(rows[name], probe)
            after = self._turn(rows[NETWORK_LIMIT], probe)
            if sample is not None:
                stand_against(sample, before, after)
            before = after

    def _turn(self, row: Row, probe: Probe) -> Sample | None:
        """Take and record one sample: that of the fastest of the reader's variants; None when the row has failed."""
        if not row.measured:
            return None
        with self._guard(row):
            samples = [self._execute(row, variant, probe) for variant in self._variants[row.reader]]
            row.samples.append(min(samples, key=lambda sample: sample.seconds))
            return row.samples[-1]
        return None

    def _execute(self, row: Row, variant: str, probe: Probe) -> Sample:
        """Execute twice, the first time to warm up, and return the second execution's sample."""
        deadline = _TURN_SECONDS + _SECONDS_PER_GIB * row.workload.array_bytes / 2**30
        self._ask(row, {"op": "sample", "variant": variant, "discard": True}, deadline)
        probe.begin()
        answer = self._ask(row, {"op": "sample", "variant": variant}, deadline)
        return make_sample(row.workload, msgspec.convert(answer["timed"], Timed), probe.end())

    def _open(self, row: Row) -> None:
        request = {"op": "open", "workload": msgspec.to_builtins(row.workload)}
        answer = self._ask(row, request, _OPEN_SECONDS)
        row.versions = answer["versions"]
        self._variants[row.reader] = answer["variants"]

    def _ask(self, row: Row, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        if row.reader not in self._workers:
            self._workers[row.reader] = WorkerProcess(reader_class(row.reader))
        answer = self._workers[row.reader].ask(request, timeout=timeout)
        if "error" in answer:
            raise MeasurementError(answer["error"])
        if "na" in answer:
            raise UnsupportedError(answer["na"])
        return answer

    @contextlib.contextmanager
    def _guard(self, row: Row) -> Iterator[None]:
        """Let a failure cost one row: no sample of it counts, and the next workload gets a fresh worker."""
        try:
            yield
        except UnsupportedError as reason:
            row.na = str(reason)
        except (ZcbError, OSError) as error:
            row.fail(str(error))
            self._say(f"{row.workload.label}: {row.reader} failed: {error}")
            if row.reader in self._workers:
                self._workers.pop(row.reader).stop()


def _summary(rows: Iterable[Row]) -> str:
    medians = ((row.reader, statistics.median(s.seconds for s in row.samples)) for row in rows if row.samples)
    return ", ".join(f"{reader} {seconds * 1e3:.0f} ms" for reader, seconds in medians) or "nothing measured"

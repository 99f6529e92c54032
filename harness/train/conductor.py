"""What is measured of an arm: its own stopwatch, and the counters around each epoch."""

from __future__ import annotations

import logging
import math
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import psutil

from harness.errors import StoreError, UnsupportedError, ZcbError
from harness.machine.interrupts import Interrupted
from harness.measure.evidence import Probe
from harness.measure.process import WorkerProcess, told
from harness.readers import all_readers
from harness.train.in_flight import in_flight
from harness.train.loop import Looped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.measure.evidence import Evidence
    from harness.workload.training import Training

_log = logging.getLogger(__name__)

FED = 0.9
"""The utilisation from which an accelerator counts as fed."""

OPEN_SECONDS = 180.0
_STALL_SECONDS = 120.0
"""An epoch slower than this, and a second per sample, hangs rather than feeds."""
_SAMPLED_SECONDS = 0.05
_FEWEST_RUNS = 2
_TRIES = 6
"""Epochs that look for the shortest step."""


class Epoch(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch of an arm: what the step saw, and what it cost. Unknown is None."""

    index: str
    """``cold`` or ``warm``: whether shard indexes had to be fetched."""
    first_batch_seconds: float
    seconds: float
    """Of the loop, as `harness.train.loop.Looped` has it: waits and steps."""
    samples: int
    """That the loop consumed."""
    fetched_samples: int
    """That the arm read: those of the first batch too, which is what was counted around the epoch."""
    tensor_bytes: int
    """Of the samples that the loop consumed."""
    step_seconds: float
    """Of the steps in the loop, each no longer than it was asked to be: a loop that comes back late from its pause, as
    where an arm in its process holds Python's lock, leaves an accelerator idle."""
    waits: list[float]
    """Before each batch of the loop, in seconds."""
    steps: list[float]
    """After each wait, in seconds."""
    device_step_seconds: float | None = None
    """Of the steps in the loop, by events on the device; None where a step is a pause."""
    in_flight: list[float] | None = None
    """Mean number of requests under way in each of `harness.train.in_flight.PARTS` equal parts of the loop's time, as
    the embedded store saw them; of the first run's last epoch."""
    requests: int | None
    index_requests: int | None
    fetched_bytes: int | None
    nic_rx_bytes: int | None
    max_in_flight: int | None
    cpu_seconds: float
    """Of all processes of the arm."""
    store_cpu_seconds: float | None
    peak_rss_bytes: int
    """Largest sum of the resident sets of all processes of the arm, looked at every 50 ms."""

    @property
    def samples_per_second(self) -> float:
        """Samples over the loop's time."""
        return self.samples / self.seconds

    @property
    def utilisation(self) -> float:
        """Share of the loop in which the step did not wait."""
        return self.step_seconds / self.seconds

    @property
    def utilisation_by_events(self) -> float | None:
        """The same by events on the device; None where a step is a pause."""
        return None if self.device_step_seconds is None else self.device_step_seconds / self.seconds


@dataclass(kw_only=True)
class Fed:
    """What was measured of one arm, or why there is nothing."""

    arm: str
    versions: dict[str, str] = field(default_factory=dict)
    epochs: list[Epoch] = field(default_factory=list)
    """All runs' epochs, in order."""
    unpaused: list[Epoch] = field(default_factory=list)
    """An epoch of each run without a step: as many samples a second as the arm makes."""
    at_steps: dict[float, list[Epoch]] = field(default_factory=dict)
    """An epoch of each run with each of the plan's other steps, by their ms."""
    shortest_step: list[float | None] = field(default_factory=list)
    """Of each run, the shortest step in seconds at which the arm keeps an accelerator fed."""
    na: str | None = None
    error: str | None = None
    seconds: float = 0.0
    """What its runs took in all."""

    @property
    def first(self) -> list[Epoch]:
        """The first epoch of each run."""
        return self.epochs[:: self._epochs_of_a_run]

    @property
    def later(self) -> list[Epoch]:
        """The last epoch of each run."""
        return self.epochs[self._epochs_of_a_run - 1 :: self._epochs_of_a_run]

    @property
    def _epochs_of_a_run(self) -> int:
        return max(1, len(self.epochs) // max(1, len(self.unpaused)))

    @property
    def measured(self) -> bool:
        """Whether another run makes sense: it can do this, and did not fail."""
        return self.na is None and self.error is None

    def keep(self, runs: int, epochs: int) -> None:
        """Forget all but the first runs, of so many epochs each."""
        del self.epochs[runs * epochs :], self.unpaused[runs:], self.shortest_step[runs:]
        self.at_steps = {step: of[:runs] for step, of in self.at_steps.items() if runs}  # none of the first run's

    def fail(self, error: str) -> None:
        """Leave no figures: an arm that failed once has none."""
        self.error = error
        self.epochs, self.unpaused, self.at_steps, self.shortest_step = [], [], {}, []


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    step_ms: float
    device: str | None = None
    """Where the steps of the listed epochs are, as torch names it, which then take what they take; None is a pause."""
    other_steps_ms: Sequence[float] = ()
    """Steps of which each run has another epoch, with the last epoch's samples."""
    runs: int = 1
    """Fresh processes of each arm, in shuffled order."""
    budget_seconds: float | None = None
    """An arm whose runs took as long has no other one, once it has two; None is no budget."""
    feeds: bool = True
    """Whether the shortest step is looked for."""
    seed: int = 0


def train(
    training: Training, arms: Sequence[str], plan: Plan, environment: Mapping[str, str] = MappingProxyType({})
) -> list[Fed]:
    """Let each arm feed the epochs of a training workload, in fresh processes, and return what was measured.

    An arm that fails costs its own row only.

    Raises
    ------
    StoreError
        The embedded store is not running, or ended.
    Interrupted
        Ctrl-C came when a run was finished; it has the arms of which there is one.
    """
    rows = {name: Fed(arm=name) for name in arms}
    shuffled = random.Random(plan.seed)  # noqa: S311 - an order, not a secret
    with Probe(training.target) as probe:
        for run in range(plan.runs):
            order = [name for name in arms if rows[name].measured and not _has_had_its_time(rows[name], run, plan)]
            shuffled.shuffle(order)
            probe.round_number = run + 1
            for name in order:
                try:
                    _run(rows[name], training, plan, environment, probe)
                except KeyboardInterrupt as stop:
                    rows[name].keep(run, training.epochs)
                    found = [row for row in rows.values() if row.epochs or not row.measured]
                    raise (Interrupted(found) if found else KeyboardInterrupt) from stop
    return list(rows.values())


def _has_had_its_time(row: Fed, runs: int, plan: Plan) -> bool:
    return plan.budget_seconds is not None and runs >= _FEWEST_RUNS and row.seconds >= plan.budget_seconds


def _run(row: Fed, training: Training, plan: Plan, environment: Mapping[str, str], probe: Probe) -> None:
    probe.watch()
    worker, begin = None, time.monotonic()
    try:
        worker = WorkerProcess(_Program(row.arm), environment)
        row.versions = _Asked(worker, training, probe).all_of(row, plan)
    except UnsupportedError as reason:
        row.na = str(reason)
    except ZcbError as error:
        row.fail(f"{error}{probe.trouble()}")
    finally:
        row.seconds += time.monotonic() - begin
        if worker is not None:
            _stop(worker)


def _stop(worker: WorkerProcess) -> None:
    """End an arm's process and all that it started: those notice too late that it is gone."""
    family = _family(worker.pid)
    worker.stop()
    for process in family[1:]:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@dataclass
class _Program:
    """An arm's process, as `WorkerProcess` starts it."""

    name: str

    def command(self, environment: Mapping[str, str]) -> Sequence[str]:
        if not _is_python(self.name):
            return all_readers()[self.name].command(environment)
        return [sys.executable, "-m", "harness.train.worker", self.name]


def _is_python(arm: str) -> bool:
    reader = all_readers().get(arm)
    return reader is None or reader.is_python


class _Asked:
    """One process of an arm, and what is asked of it."""

    def __init__(self, worker: WorkerProcess, training: Training, probe: Probe) -> None:
        self._worker, self._training, self._probe = worker, training, probe

    def all_of(self, row: Fed, plan: Plan) -> dict[str, str]:
        """Measure a run into `row` and return the arm's versions."""
        if plan.device is not None and not _is_python(row.arm):
            raise UnsupportedError("its batches stay in a process without torch: no step on a device can use them")
        request = {"op": "load", "training": msgspec.to_builtins(self._training)}
        versions = told(self._worker.require(request, timeout=OPEN_SECONDS), "versions", dict[str, str])
        last = self._training.epochs - 1
        for number in range(self._training.epochs):
            is_drawn = number == last and not row.unpaused
            row.epochs.append(self._epoch(row.arm, number, plan.step_ms, plan.device, log=is_drawn))
        unpaused = self._epoch(row.arm, last, 0.0)
        row.unpaused.append(unpaused)
        for step_ms in plan.other_steps_ms:
            row.at_steps.setdefault(step_ms, []).append(self._epoch(row.arm, last, step_ms))
        if plan.feeds:
            row.shortest_step.append(self._shortest_step(row.arm, last, unpaused))
        return versions

    def _shortest_step(self, arm: str, number: int, unpaused: Epoch) -> float | None:
        """Return the shortest step at which utilisation is `FED`, by bisection on its logarithm; None if none was.

        A step cannot be shorter than `FED` of what a batch takes without one; until one is long enough, each is twice
        the one before.
        """
        low, found = FED * unpaused.seconds / len(unpaused.waits), None
        for _ in range(_TRIES):
            step = 2 * low if found is None else (low * found) ** 0.5
            if self._epoch(arm, number, step * 1e3).utilisation >= FED:
                found = step
            else:
                low = step
        return found

    def _epoch(self, arm: str, number: int, step_ms: float, device: str | None = None, *, log: bool = False) -> Epoch:
        training = self._training
        patience = _STALL_SECONDS + training.samples_per_epoch + training.batches * step_ms / 1e3
        self._probe.begin(log=log)
        with _tree(self._worker.pid) as cost:
            request = {"op": "epoch", "number": number, "step_ms": step_ms}
            answer = self._worker.require(request | ({"device": device} if device else {}), timeout=patience)
        looped = told(answer, "looped", Looped)
        step = math.inf if device else step_ms / 1e3  # one on a device takes what it takes
        epoch = _epoch(training, looped, step, cost, self._probe.end())
        if log:
            epoch = msgspec.structs.replace(epoch, in_flight=self._in_flight(looped))
        _log.info(
            f"{arm}: epoch {number}, step {device or f'{step_ms:.3g} ms'}: {epoch.samples_per_second:.0f} samples/s, "
            f"utilisation {epoch.utilisation:.0%}, first batch {epoch.first_batch_seconds:.2f} s"
        )
        return epoch

    def _in_flight(self, looped: Looped) -> list[float] | None:
        """Return what was under way during a loop; None where the store does not know it of every request."""
        try:
            requests = self._probe.requests()
        except StoreError as error:
            _log.info(f"no requests in flight of this epoch: {error}")
            return None
        return None if requests is None else in_flight(requests, looped.began_ns, looped.seconds)


def _epoch(training: Training, looped: Looped, step: float, cost: _Cost, evidence: Evidence) -> Epoch:
    store, later = evidence.store, len(looped.waits)
    index = None if store is None else store.get_index
    return Epoch(
        index="cold" if training.index == "cold" or index is None or index else "warm",
        first_batch_seconds=looped.first_batch,
        seconds=looped.seconds,
        samples=later * training.batch,
        fetched_samples=training.samples_per_epoch,
        tensor_bytes=training.tensor_bytes * later // training.batches,
        step_seconds=sum(min(seconds, step) for seconds in looped.steps),
        waits=looped.waits,
        steps=looped.steps,
        device_step_seconds=None if looped.device_steps is None else sum(looped.device_steps),
        requests=None if store is None else store.requests,
        index_requests=index,
        fetched_bytes=None if store is None else store.bytes_out,
        nic_rx_bytes=evidence.nic.rx_bytes,
        max_in_flight=None if store is None else store.max_in_flight,
        cpu_seconds=cost.cpu_seconds,
        store_cpu_seconds=None if store is None else store.cpu_seconds,
        peak_rss_bytes=cost.peak_rss_bytes,
    )


@dataclass
class _Cost:
    """What a process and all that it started used."""

    cpu_seconds: float = 0.0
    peak_rss_bytes: int = 0


@contextmanager
def _tree(pid: int) -> Iterator[_Cost]:
    """Yield what a process and its descendants use inside the block; complete when it ends."""
    cost, ended = _Cost(), threading.Event()
    before = _cpu_seconds(pid)

    def watch() -> None:
        while not ended.is_set():
            cost.peak_rss_bytes = max(cost.peak_rss_bytes, _resident(pid))
            ended.wait(_SAMPLED_SECONDS)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield cost
        cost.cpu_seconds = _cpu_seconds(pid) - before
    finally:
        ended.set()
        watcher.join()


def _family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none where it has ended."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, of its descendants, and of those of them that ended and were waited for."""
    total = 0.0
    for process in _family(pid):
        try:
            used = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += used.user + used.system + used.children_user + used.children_system
    return total


def _resident(pid: int) -> int:
    total = 0
    for process in _family(pid):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total

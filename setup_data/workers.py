"""Shards encoded and stored by processes of this machine, one a core: threads would wait for Python's lock.

A thread that encodes holds the lock for a fifth to a third of its time (docs/data.md has the figures), so that threads
of one process keep three to five cores busy, however many there are. Each process here stores what it encodes, and
only checksums come back: they are recorded, and the parts, the manifest and ``zarr.json`` stored, by the process that
started the others. So a run resumes as any other does.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NamedTuple, cast

import psutil

from harness.datasets.manifest import DatasetSpec
from harness.errors import StoreError, ZcbError
from harness.machine.cpu import cores
from harness.machine.exit import run_then_exit
from harness.machine.lifeline import die_with_parent
from harness.machine.memory import keep_freed
from harness.targets.client import reaching
from harness.targets.target import Target
from harness.targets.timeouts import DEFAULT_SECONDS, allowed_silence, silence_allowed
from setup_data.encode import EncodedShard
from setup_data.ledger import Ledger
from setup_data.write import BUDGET, Advance, Numbered, Uploader, open_to_write

LEAST_NBYTES = 1 << 30
"""Decoded bytes of an array that is worth starting processes for, which takes each about a second."""

_SPAWN = get_context("spawn")
_MEMORY_SHARE = 16
"""What part of the free memory the shards of all processes may take, where that is more than one process' share."""
_SENDING_THREADS = "TOKIO_WORKER_THREADS"
"""Threads that send, in each process: by default as many as there are cores, so their square in all."""

Result = tuple[int, EncodedShard] | ZcbError
"""What a process reports: a shard that it stored, by its number, or what ended it."""


class _Task(NamedTuple):
    """What a process is told when it starts."""

    target: Target
    spec: DatasetSpec
    shards: Sequence[Numbered]
    in_flight: int
    budget: int
    silence: float
    parent: int


class Workers:
    """Processes of this machine that encode and store shards.

    Parameters
    ----------
    target
        Where the shards go.
    in_flight
        Uploads under way at once, of all processes together.
    """

    def __init__(self, target: Target, *, in_flight: int) -> None:
        self._target = target
        self._in_flight = in_flight

    def store_shards(self, ledger: Ledger, remaining: Iterator[Numbered], advance: Advance) -> None:
        """Have shards stored and record them, as `setup_data.write.StoreShards` demands; the first error ends all.

        Raises
        ------
        StoreError
            The store failed or refused, or a process died.
        """
        running: dict[Connection, SpawnProcess] = {}
        try:
            for task in self._tasks(ledger.spec, list(remaining)):
                results, process = _start(task)
                running[results] = process
            while running:
                for results in cast("list[Connection]", wait(list(running))):
                    done = _next(results, running)
                    if done is None:
                        continue
                    ledger.keep(*done)
                    advance(ledger.spec.shard_nbytes)
        finally:
            for process in running.values():
                process.kill()
                process.join()

    def _tasks(self, spec: DatasetSpec, remaining: Sequence[Numbered]) -> list[_Task]:
        """Return what each process is told: shards are dealt in turn, uploads and memory are shared out."""
        count = min(cores(), self._in_flight, len(remaining))
        held = max(BUDGET, psutil.virtual_memory().available // _MEMORY_SHARE)
        return [
            _Task(
                target=self._target,
                spec=spec,
                shards=remaining[number::count],
                in_flight=len(range(number, self._in_flight, count)),
                budget=held // count,
                silence=allowed_silence() or DEFAULT_SECONDS,
                parent=os.getpid(),
            )
            for number in range(count)
        ]


def _start(task: _Task) -> tuple[Connection, SpawnProcess]:
    """Start a process; return what its results come by, and itself."""
    ours, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(task, theirs), daemon=True)
    with _unattended():
        process.start()
    theirs.close()  # else its end would not be seen here
    return ours, process


@contextlib.contextmanager
def _unattended() -> Iterator[None]:
    """Have processes that are started inside the block not see Ctrl-C, which is for the one that starts and ends them.

    What is blocked stays so in a new process, from its first instruction on.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threads = os.environ.get(_SENDING_THREADS)
    os.environ[_SENDING_THREADS] = threads or "2"
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if threads is None:
            del os.environ[_SENDING_THREADS]


def _next(results: Connection, running: dict[Connection, SpawnProcess]) -> tuple[int, EncodedShard] | None:
    """Return what a process stored; None, and it is no longer among those `running`, when it has done its work."""
    try:
        result: Result = results.recv()
    except (EOFError, OSError):  # nothing more, or a message that was cut off
        process = running.pop(results)
        process.join()
        if process.exitcode:
            raise StoreError(
                f"a process that encodes shards died (exit code {process.exitcode}): "
                "run the same command to resume, with fewer --in-flight if memory is short"
            ) from None
        return None
    if isinstance(result, ZcbError):
        raise result
    return result


def _work(task: _Task, results: Connection) -> None:
    """Encode and store the task's shards; runs in a process of its own."""
    die_with_parent(task.parent)
    keep_freed()
    run_then_exit(lambda: _store(task, results))


def _store(task: _Task, results: Connection) -> None:
    try:
        with silence_allowed(task.silence), reaching(task.target):
            asyncio.run(_uploader(task, results).run(task.shards))
    except ZcbError as error:
        _tell(results, error)


def _tell(results: Connection, result: Result) -> None:
    """Send a result. Where nobody is left to be told, the process ends, as the kernel is about to end it anyway."""
    try:
        results.send(result)
    except BrokenPipeError:
        os._exit(1)


def _uploader(task: _Task, results: Connection) -> Uploader:
    async def stored(number: int, encoded: EncodedShard) -> None:
        _tell(results, (number, encoded))

    store = open_to_write(task.target)
    return Uploader(store, task.spec, stored, threads=1, in_flight=task.in_flight, budget=task.budget)

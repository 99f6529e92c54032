"""A reader as a long-lived process: JSON lines on stdin and stdout, one answer per line asked.

``python -m harness.readers.worker READER`` runs in the environment under test. The protocol, which readers in other
languages speak too, is described in docs/workload.md.
"""

import gc
import os
import sys
import sysconfig
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from types import MappingProxyType
from typing import IO, Any, override

import msgspec

from harness.errors import UnsupportedError, ZcbError
from harness.machine.cpu import thread_seconds
from harness.machine.exit import run_then_exit
from harness.machine.lifeline import die_with_parent
from harness.machine.memory import status_bytes
from harness.readers import reader_class
from harness.readers.base import GLOBAL_LOCK, Reader
from harness.readers.settings import Value
from harness.results.sample import RequestCounts, Timed, Window
from harness.workload import model as workloads
from harness.workload import stream
from harness.workload import truth as truths
from harness.workload.truth import checksums

PARENT_VARIABLE = "ZCB_CONDUCTOR_PID"
"""Environment variable with the conductor's process id: a worker without that parent leaves."""

NO_TIMELINE = "a stream has no timeline: record whole_array, or another pattern"

_RESET_PEAK_RSS = "5"


class Answering(ABC):
    """A process that carries out one operation per line."""

    packages: Sequence[str] = ()
    """Distributions in which the place of an error is looked for."""

    @abstractmethod
    def operations(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        """Return what can be asked for, by the name that a request has as ``op``."""

    def answer(self, line: bytes) -> dict[str, Any]:
        """Carry out one request and return its answer; an exception becomes ``error`` or ``na`` with the reason."""
        try:
            request = msgspec.json.decode(line)
            return self.operations()[request.pop("op")](**request)
        except UnsupportedError as error:
            return {"na": str(error)}
        except Exception as error:  # whatever a library raises is its own failure, not the pass's
            return {"error": _reason(_first(error), self.packages)}


class Worker(Answering):
    """Carries out the operations that the conductor asks for on one reader."""

    def __init__(self, make: Callable[[], Reader]) -> None:
        self._make = make
        self._reader: Reader | None = None
        self._workload: workloads.Workload | None = None

    @override
    def operations(self) -> Mapping[str, Callable[..., dict[str, Any]]]:
        return {
            "open": self._open,
            "select": self._select,
            "sample": self._sample,
            "checksums": self._checksums,
            "timeline": self._timeline,
            "close": self._close,
        }

    def _open(
        self,
        workload: dict[str, Any],
        settings: Mapping[str, Value] = MappingProxyType({}),
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        self._close()
        decoded, reader = workloads.decode(workload), self._make()
        reader.choose(settings)
        reader.assumed = metadata
        self.packages = reader.packages
        reader.open(next(_steps(decoded)).work)  # one that cannot be opened holds nothing that could be closed
        self._workload, self._reader = decoded, reader
        return {"versions": reader.versions() | _lock(), "variants": list(reader.variants())}

    def _select(self, workload: dict[str, Any]) -> dict[str, Any]:
        """Let the open array be read elsewhere from now on."""
        if self._reader is None:
            raise RuntimeError("select before open")
        self._workload = workloads.decode(workload)
        if self._workload.stream is None:
            self._reader.select(self._workload)
        return {"selected": True}

    def _sample(self, variant: str = "", discard: bool = False) -> dict[str, Any]:
        """Execute once. A discarded execution warms connections up and is neither verified nor reported."""
        if self._reader is None or self._workload is None:
            raise RuntimeError("sample before open")
        self._reader.use(variant)
        if discard:
            next(_selected(self._reader, self._workload))  # a stream's first step makes connections warm
            self._reader.read()
            return {"discarded": True}
        return {"timed": timed_reads(self._reader, self._workload)}

    def _checksums(self) -> dict[str, Any]:
        """Execute once and return the checksums of the arrays, whatever the workload's truth."""
        if self._reader is None or self._workload is None:
            raise RuntimeError("checksums before open")
        found: list[int] = []
        for step in _selected(self._reader, self._workload):
            of_step = checksums(step.work.array, step.work.reads, self._reader.read())
            found += truths.unpack(of_step)
        return {"reads_crc32c": truths.pack(found)}

    def _timeline(self, variant: str = "", discard: bool = False) -> dict[str, Any]:
        """Execute once under a recorder, which has connections of its own: a discarded execution warms them up."""
        if self._reader is None or self._workload is None:
            raise RuntimeError("timeline before open")
        if self._workload.stream is not None:
            raise UnsupportedError(NO_TIMELINE)
        self._reader.use(variant)
        gc.collect()
        timeline, result = self._reader.timeline()
        if discard:
            return {"discarded": True}
        self._reader.check(self._workload, result)
        return {"timeline": timeline}

    def _close(self) -> dict[str, Any]:
        if self._reader is not None:
            self._reader.close()
        self._reader = self._workload = None
        return {"closed": True}


def _lock() -> dict[str, str]:
    """Return whether threads share one lock where a Python is built without it: a library may ask for it; else nothing.

    What was imported by now decides.
    """
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return {}
    return {GLOBAL_LOCK: "on" if getattr(sys, "_is_gil_enabled")() else "off"}  # noqa: B009 - new in 3.13


def _first(error: BaseException) -> BaseException:
    """Return the error itself, or the first of a group, whose own message says nothing of the cause."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _reason(error: BaseException, packages: Sequence[str]) -> str:
    """Return what went wrong in one line: our own errors say it themselves, a library's have a name and a place."""
    said = " ".join(str(error).split())[:500]
    if isinstance(error, ZcbError):
        return said
    place = _place(error, packages)
    return f"{type(error).__name__}: {said}" + (f" ({place})" if place else "")


def _place(error: BaseException, packages: Sequence[str]) -> str | None:
    """Return file and line of the innermost frame inside the first of the packages that has one."""
    frames = [(_in_package(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    for package in packages:
        inside = [f"{file}:{line}" for file, line in frames if file.startswith(f"{package}/")]
        if inside:
            return inside[-1]
    return None


def _in_package(file: str) -> str:
    """Return a module's file from its top package on: below the folder of `sys.path` that it was found in."""
    above = [folder for folder in sys.path if folder and file.startswith(f"{folder.rstrip('/')}/")]
    return file.removeprefix(max(above, key=len).rstrip("/")).lstrip("/") if above else file


def timed_reads(reader: Reader, workload: workloads.Workload) -> Timed:
    """Execute the workload once and return what its timed part took; what came was compared with the truth.

    Of a stream only its reads are timed: the clocks stand still while a step's arrays are compared with the truth and
    given up, so that no more than one step's arrays are held.
    """
    total, steps = _Total(), []
    reader.reset_request_counts()
    for _ in range(1 if workload.stream is None else workload.stream.loops):
        for step in _selected(reader, workload):
            result = total.add(reader)
            total.calls += reader.calls(step.work)
            steps.append(Window(seconds=total.last_seconds, array_bytes=step.work.array_bytes))
            reader.check(step.work, result, first=step.first)
            del result
    return total.timed(workload, reader.request_counts(), None if workload.stream is None else steps)


def _steps(workload: workloads.Workload) -> Iterator[stream.Step]:
    """Yield what is executed at once: the whole workload, or the steps of a stream's loop."""
    if workload.stream is None:
        yield stream.Step(0, workload)
        return
    yield from stream.steps(workload)


def _selected(reader: Reader, workload: workloads.Workload) -> Iterator[stream.Step]:
    """Yield what `_steps` does, the reader told of each."""
    for step in _steps(workload):
        if workload.stream is not None:
            reader.select(step.work)
        yield step


class _Total:
    """What executions took, each between two readings of every clock."""

    def __init__(self) -> None:
        self.calls = 0
        self.last_seconds = 0.0
        self._seconds = self._cpu_seconds = 0.0
        self._of_threads: Counter[str] = Counter()
        self._peaks: list[int | None] = []

    def add(self, reader: Reader) -> Sequence[Any]:
        """Execute what the reader is told of, and return it."""
        gc.collect()  # an earlier execution's garbage is not this one's time or memory
        can_reset = _reset_peak_rss()
        threads = thread_seconds()
        cpu = time.process_time()
        begin = time.perf_counter()
        result = reader.read()
        self.last_seconds = time.perf_counter() - begin
        self._cpu_seconds += time.process_time() - cpu
        self._seconds += self.last_seconds
        self._of_threads.update({thread: t - threads.get(thread, 0.0) for thread, t in thread_seconds().items()})
        self._peaks.append(status_bytes(os.getpid(), "VmHWM") if can_reset else None)
        return result

    def timed(
        self, workload: workloads.Workload, request_counts: RequestCounts | None, windows: list[Window] | None
    ) -> Timed:
        """Return all of it."""
        peaks = [peak for peak in self._peaks if peak is not None]
        return Timed(
            seconds=self._seconds,
            cpu_seconds=self._cpu_seconds,
            busiest_thread_seconds=max(self._of_threads.values(), default=None),
            peak_rss_bytes=max(peaks) if len(peaks) == len(self._peaks) else None,
            array_bytes=workload.array_bytes,
            calls=self.calls,
            request_counts=request_counts,
            windows=windows,
        )


def _reset_peak_rss() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK_RSS)
    except OSError:
        return False
    return True


def _answers_only() -> IO[bytes]:
    """Return the pipe to the conductor, and send whatever a library prints to stderr instead."""
    pipe = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return pipe


def serve(worker: Answering) -> None:
    """Answer requests until stdin closes."""
    conductor = os.environ.get(PARENT_VARIABLE)
    die_with_parent(int(conductor) if conductor else None)
    pipe = _answers_only()
    for line in sys.stdin.buffer:
        pipe.write(msgspec.json.encode(worker.answer(line)) + b"\n")


if __name__ == "__main__":
    run_then_exit(lambda: serve(Worker(reader_class(sys.argv[1]))))

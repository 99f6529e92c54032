"""What other programs make of this machine's cores while ours measure."""

import contextlib
import functools
import os
import resource
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from harness.machine.cpu import allowed_cores

_STAT = Path("/proc/stat")
_THREADS = Path("/proc/self/task")
_NOT_PROGRAMS = (3, 4, 5, 6)
"""Columns of a core's line in /proc/stat: idle, waiting for disks, interrupts, soft interrupts."""
_INTERRUPT_THREAD = "ksoftirqd/"
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")

SHORTEST_SECONDS = 0.5
"""What is judged at least: the kernel tells idle time in ticks of 10 ms per core."""


class CpuTimes(NamedTuple):
    """Clocks of one moment, all in seconds."""

    now: float
    free: float
    """Time of all cores that no program had: idle, or used by the kernel for interrupts."""
    own: float
    """CPU time of our processes."""


class OtherPrograms:
    """Watches how many of the cores other programs keep busy.

    What is neither idle, nor spent on interrupts, nor the CPU time of this process, of its children and of `own` is
    theirs; what a hypervisor gave to other machines is so too. The CPU time of processes comes from their exact clocks.
    A virtual network's packets keep the kernel's threads for interrupts busy: that is ours.

    Parameters
    ----------
    own
        Process ids that are ours besides this process and its children, e.g. a store's.
    read
        Reads the clocks; None where the kernel does not tell them.
    """

    def __init__(self, own: Iterable[int] = (), read: Callable[[Iterable[int]], CpuTimes | None] | None = None) -> None:
        self._own = (*own, *_interrupt_threads())
        self._read = read or cpu_times
        self._readings: deque[CpuTimes] = deque()

    def mark(self) -> None:
        """Note that what is measured begins."""
        now = self._read(self._own)
        if now is None:
            return
        self._readings.append(now)
        while len(self._readings) > 1 and now.now - self._readings[1].now >= SHORTEST_SECONDS:
            self._readings.popleft()  # a later mark is old enough for whatever is asked from now on

    def busy_cores(self) -> float | None:
        """Return how many cores others kept busy, on average since the last mark, or since the last that is old enough.

        What takes less than `SHORTEST_SECONDS` is judged together with what was before it; None where nothing was, or
        where the kernel does not tell.
        """
        end = self._read(self._own)
        if end is None:
            return None
        begin = next((r for r in reversed(self._readings) if end.now - r.now >= SHORTEST_SECONDS), None)
        return None if begin is None else busy_with_others(begin, end, allowed_cores())


def busy_with_others(begin: CpuTimes, end: CpuTimes, cores: int) -> float:
    """Return how many of `cores` cores programs that are not ours kept busy between two readings."""
    seconds = end.now - begin.now
    others = cores * seconds - (end.free - begin.free) - (end.own - begin.own)
    return max(0.0, others / seconds)


def cpu_times(own: Iterable[int]) -> CpuTimes | None:
    """Return the clocks of the cores that this process may use and of our processes; None where they are not told."""
    try:
        return CpuTimes(time.monotonic(), free_seconds(_STAT.read_text()), _own_seconds({*own, *_children()}))
    except (OSError, ValueError):
        return None


def free_seconds(stat: str) -> float:
    """Return the time, in seconds, that no program had the cores that this process may use, from /proc/stat's text.

    Raises
    ------
    ValueError
        It does not tell of each of these cores.
    """
    lines = (line.split() for line in stat.splitlines() if line.startswith("cpu"))
    ticks = {name: sum(int(values[column]) for column in _NOT_PROGRAMS) for name, *values in lines}
    used = [f"cpu{core}" for core in os.sched_getaffinity(0)]
    if not ticks.keys() >= set(used):
        raise ValueError("/proc/stat does not tell of each core")
    return _TICK_SECONDS * sum(ticks[name] for name in used)


def _own_seconds(pids: Iterable[int]) -> float:
    """Return the CPU seconds of this process, of its ended children, and of the processes `pids` that still live."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for pid in pids:
        with contextlib.suppress(OSError):
            seconds += time.clock_gettime(_clock(pid))
    return seconds


@functools.cache
def _interrupt_threads() -> tuple[int, ...]:
    """Return the process ids of the kernel's threads for soft interrupts, one per core."""
    found = []
    for name in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if name.read_text().startswith(_INTERRUPT_THREAD):
                found.append(int(name.parent.name))
    return tuple(found)


def _children() -> set[int]:
    return {int(pid) for thread in _THREADS.iterdir() for pid in (thread / "children").read_text().split()}


def _clock(pid: int) -> int:
    """Return the kernel's name of a process's CPU clock, as ``clock_getcpuclockid`` makes it."""
    return (~pid << 3) | 2

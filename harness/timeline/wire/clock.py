"""From the kernel's time stamps, which are of the realtime clock, to the monotonic clock of timelines."""

import time
from typing import NamedTuple

_TRIES = 100


class Reading(NamedTuple):
    """How far the realtime clock was ahead of the monotonic one at some moment, in nanoseconds."""

    ahead_ns: int
    error_ns: int
    """Most by which `ahead_ns` is wrong."""


class Conversion(NamedTuple):
    """Brings realtime stamps of an interval to the monotonic clock."""

    ahead_ns: int
    error_ns: int
    """Most by which a converted stamp is wrong; large when the clock was set in the interval."""

    def monotonic(self, realtime_ns: int) -> int:
        """Return a stamp in nanoseconds of the monotonic clock."""
        return realtime_ns - self.ahead_ns


def read() -> Reading:
    """Return the distance of the clocks now: of many tries, the one in which the least time passed."""
    return min((_try() for _ in range(_TRIES)), key=lambda reading: reading.error_ns)


def between(begin: Reading, end: Reading) -> Conversion:
    """Return the conversion for an interval.

    Both clocks run at the same speed, which the kernel adjusts for both alike, so their distance changes only when
    the realtime clock is set. What it changed by counts as error, since it is unknown when that happened.
    """
    ahead = (begin.ahead_ns + end.ahead_ns) // 2
    return Conversion(ahead, abs(end.ahead_ns - begin.ahead_ns) + max(begin.error_ns, end.error_ns))


def _try() -> Reading:
    before = time.monotonic_ns()
    realtime = time.time_ns()
    after = time.monotonic_ns()
    return Reading(realtime - (before + after) // 2, (after - before + 1) // 2)

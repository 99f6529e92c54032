"""What a packet capture saw, as plain data."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.timeline.wire.http import Exchange


class Server(NamedTuple):
    """Where a target's HTTP goes."""

    host: str
    port: int


@dataclass(kw_only=True)
class Captured:
    """What a capture saw; complete when its context manager has been left."""

    server: Server
    interface: str
    since_ns: int = 0
    """Requests that were sent before are left out; monotonic clock."""
    exchanges: Sequence[Exchange] = ()
    """Requests to the target's host with their responses, in the order they were sent."""
    packets: int = 0
    packets_dropped: int = 0
    clock_error_ns: int = 0
    """Most by which the stamps are wrong against the monotonic clock."""
    failures: list[str] = field(default_factory=list)
    """Why the capture is not complete, one line each."""

    def begin(self) -> None:
        """Leave out the requests sent until now; their connections are followed all the same."""
        self.since_ns = time.monotonic_ns()

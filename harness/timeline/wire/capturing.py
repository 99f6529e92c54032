"""A packet capture of the plain HTTP to one target, as a context manager."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from harness.errors import BadUseError
from harness.machine import network
from harness.targets.target import Target
from harness.timeline.model import Timeline
from harness.timeline.wire import alone, clock, merging
from harness.timeline.wire.http import Exchange, exchanges
from harness.timeline.wire.packets import Segment, segments
from harness.timeline.wire.ring import PacketRing
from harness.timeline.wire.tcp import connections
from harness.workload.model import Workload

_HTTP_PORT = 80
_WORST_CLOCK_ERROR_NS = 1_000_000


class Server(NamedTuple):
    """Where a target's plain HTTP goes."""

    host: str
    port: int


class Captured:
    """What a capture saw; complete when its context manager has been left."""

    def __init__(self, server: Server, interface: str) -> None:
        self.server = server
        self.interface = interface
        self.exchanges: Sequence[Exchange] = []
        """Requests to the target's host with their responses, in the order they were sent."""
        self.packets = 0
        self.packets_dropped = 0
        self.clock_error_ns = 0
        """Most by which the stamps are wrong against the monotonic clock."""
        self.failures: list[str] = []
        """Why the capture is not complete, one line each."""

    def merge(self, timeline: Timeline) -> Timeline:
        """Return the reader's timeline with the wire's times beside them; see `harness.timeline.wire.merging.merge`."""
        return merging.merge(timeline, self)

    def alone(self, workload: Workload) -> Timeline:
        """Return a timeline of `workload` from the packets only; see `harness.timeline.wire.alone.from_wire`."""
        return alone.from_wire(workload, self)

    def take(self, found: Iterable[Segment]) -> None:
        """Put the segments of a capture together."""
        followed = [exchanges(connection) for connection in connections(found)]
        self.exchanges = sorted(
            (e for these, _ in followed for e in these if self._is_ours(e)), key=lambda e: (e.sent_ns, e.connection)
        )
        self.failures += [problem for _, problems in followed for problem in problems]

    def _is_ours(self, exchange: Exchange) -> bool:
        """Whether the request went to the target's host, or a bucket's name before it, as its port has others too."""
        host = exchange.host.rpartition(":")[0] if _has_port(exchange.host) else exchange.host
        host = host.strip("[]").lower()
        return host == self.server.host or host.endswith(f".{self.server.host}")


def why_not(target: Target) -> str | None:
    """Return why requests to `target` cannot be captured, in one line; None when they can."""
    if urlsplit(target.service_url).scheme != "http":
        return f"the packets to target {target.name!r} cannot be read: its traffic is encrypted (https)"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        return "capturing packets needs the privilege CAP_NET_RAW: run as root, or leave the wire out"
    except (OSError, AttributeError) as error:
        return f"this system has no packet capture (AF_PACKET): {error}"
    return None


@contextlib.contextmanager
def capture(target: Target) -> Iterator[Captured]:
    """Capture the requests to a target and their responses while the context is entered.

    The packets are put together when the context is left, so that a reader beside it is not held up.

    Parameters
    ----------
    target
        Read over plain HTTP, by this machine.

    Raises
    ------
    BadUseError
        The target or this process does not allow it; `why_not` says so beforehand.
    StoreError
        There is no route to the target.
    """
    reason = why_not(target)
    if reason is not None:
        raise BadUseError(reason)
    server = _server(target)
    captured = Captured(server, network.interface_to(server.host))
    before = clock.read()
    with PacketRing(captured.interface, server.port, loopback=_is_loopback(captured.interface)) as ring:
        yield captured
    conversion = clock.between(before, clock.read())
    captured.clock_error_ns, captured.packets_dropped = conversion.error_ns, ring.dropped
    if conversion.error_ns > _WORST_CLOCK_ERROR_NS:
        captured.failures.append(
            f"the realtime clock was set by up to {conversion.error_ns / 1e6:.1f} ms during the capture"
        )
    packets = list(ring.packets())
    captured.packets = len(packets)
    captured.take(segments(packets, conversion, server.port))


def _server(target: Target) -> Server:
    address = urlsplit(target.service_url)
    if not address.hostname:
        raise BadUseError(f"target {target.name!r}: its address {target.service_url!r} names no host")
    return Server(address.hostname, address.port or _HTTP_PORT)


def _is_loopback(interface: str) -> bool:
    return interface == network.interface_to("127.0.0.1")


def _has_port(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rpartition(":")[2].isdigit()
    return False

"""A packet capture of the plain HTTP to one target, as a context manager."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from harness.errors import BadUseError
from harness.machine import network
from harness.targets.target import Target
from harness.timeline.wire import clock
from harness.timeline.wire.captured import Captured, Server
from harness.timeline.wire.http import exchanges
from harness.timeline.wire.packets import Segment, segments
from harness.timeline.wire.ring import PacketRing
from harness.timeline.wire.tcp import connections

_HTTP_PORT = 80
_WORST_CLOCK_ERROR_NS = 1_000_000


def why_not(target: Target) -> str | None:
    """Return why requests to `target` cannot be captured, in one line; None when they can."""
    if target.is_encrypted:
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
    captured = Captured(server=server, interface=network.interface_to(server.host))
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
    take(captured, segments(packets, conversion, server.port))


def take(captured: Captured, found: Iterable[Segment]) -> None:
    """Put the segments of a capture together and into `captured`."""
    followed = [exchanges(connection) for connection in connections(found)]
    ours = (e for these, _ in followed for e in these if _is_for(captured.server, e.host))
    captured.exchanges = sorted(ours, key=lambda e: (e.sent_ns, e.connection))
    captured.failures += [problem for _, problems in followed for problem in problems]


def _is_for(server: Server, host: str) -> bool:
    """Whether a request's host is the target's, or a bucket's name before it: its port has others too."""
    name = host.rpartition(":")[0] if _has_port(host) else host
    name = name.strip("[]").lower()
    return name == server.host or name.endswith(f".{server.host}")


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

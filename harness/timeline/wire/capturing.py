"""A packet capture of the HTTP to one target, as a context manager."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from harness.errors import BadUseError
from harness.machine import network
from harness.store import state
from harness.targets.target import Target
from harness.timeline.wire import clock
from harness.timeline.wire.captured import Captured, Server
from harness.timeline.wire.http import Exchange, exchanges
from harness.timeline.wire.packets import Segment, segments
from harness.timeline.wire.ring import PacketRing
from harness.timeline.wire.tcp import Connection, Unreadable, connections
from harness.timeline.wire.tls import Secrets, opened, read_key_log

_PORTS = {"http": 80, "https": 443}
_WORST_CLOCK_ERROR_NS = 1_000_000


def why_not(target: Target) -> str | None:
    """Return why requests to `target` cannot be captured, in one line; None when they can."""
    if target.is_encrypted and _key_log(target) is None:
        how = ": `zcb store start --tls --key-log` keeps its keys" if target.profile else ""
        return f"the packets to target {target.name!r} cannot be read: its traffic is encrypted (https){how}"
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
        Read by this machine, over plain HTTP, or from the embedded store where it keeps the keys of TLS.

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
    key_log = _key_log(target) if target.is_encrypted else None
    loopback = _is_loopback(captured.interface)
    with PacketRing(captured.interface, server.port, loopback=loopback, whole=key_log is not None) as ring:
        yield captured
    conversion = clock.between(before, clock.read())
    captured.clock_error_ns, captured.packets_dropped = conversion.error_ns, ring.dropped
    if conversion.error_ns > _WORST_CLOCK_ERROR_NS:
        captured.failures.append(
            f"the realtime clock was set by up to {conversion.error_ns / 1e6:.1f} ms during the capture"
        )
    packets = list(ring.packets())
    captured.packets = len(packets)
    take(captured, segments(packets, conversion, server.port), None if key_log is None else read_key_log(key_log))


def take(captured: Captured, found: Iterable[Segment], keys: Mapping[bytes, Secrets] | None = None) -> None:
    """Put the segments of a capture together and into `captured`; with the `keys` of TLS, open its records."""
    followed = [_followed(connection, keys) for connection in connections(found)]
    ours = (e for these, _ in followed for e in these if _is_for(captured.server, e.host))
    ours = (e for e in ours if e.sent_ns >= captured.since_ns)
    captured.exchanges = sorted(ours, key=lambda e: (e.sent_ns, e.connection))
    captured.failures += [problem for _, problems in followed for problem in problems]


def _followed(connection: Connection, keys: Mapping[bytes, Secrets] | None) -> tuple[list[Exchange], list[str]]:
    try:
        return exchanges(connection if keys is None else opened(connection, keys))
    except Unreadable as reason:
        return [], [f"{connection.name}: {reason}"]


def _key_log(target: Target) -> Path | None:
    """Return the file where the embedded store keeps the keys of its connections; None where nobody does."""
    store = state.running() if target.profile is not None else None
    return Path(store.key_log) if store is not None and store.key_log is not None else None


def _is_for(server: Server, host: str) -> bool:
    """Whether a request's host is the target's, or a bucket's name before it: its port has others too."""
    name = host.rpartition(":")[0] if _has_port(host) else host
    name = name.strip("[]").lower()
    return name == server.host or name.endswith(f".{server.host}")


def _server(target: Target) -> Server:
    address = urlsplit(target.service_url)
    if not address.hostname:
        raise BadUseError(f"target {target.name!r}: its address {target.service_url!r} names no host")
    return Server(address.hostname, address.port or _PORTS[address.scheme])


def _is_loopback(interface: str) -> bool:
    return interface == network.interface_to("127.0.0.1")


def _has_port(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rpartition(":")[2].isdigit()
    return False

"""From captured packets to TCP segments."""

import socket
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import dpkt

from harness.timeline.wire.clock import Conversion
from harness.timeline.wire.ring import Raw


class Segment(NamedTuple):
    """One TCP segment between a client and the captured server."""

    stamp_ns: int
    """Monotonic clock."""
    client: tuple[str, int]
    """Address and port: with the server's port, the connection."""
    from_client: bool
    seq: int
    ack: int | None
    """None in a connection's first segment."""
    syn: bool
    data: bytes
    """The payload's first bytes; not all where the capture cut the packet."""
    length: int
    """Bytes of the payload."""


def segments(raw: Iterable[Raw], conversion: Conversion, port: int) -> Iterator[Segment]:
    """Yield the TCP segments of packets.

    Parameters
    ----------
    raw
        As captured.
    conversion
        Brings their stamps to the monotonic clock.
    port
        TCP port of the server.
    """
    for packet in raw:
        ip = _parsed(packet.data)
        tcp = ip.data
        if not isinstance(tcp, dpkt.tcp.TCP):
            continue
        from_client = tcp.dport == port
        yield Segment(
            stamp_ns=conversion.monotonic(packet.realtime_ns),
            client=(_address(ip.src), tcp.sport) if from_client else (_address(ip.dst), tcp.dport),
            from_client=from_client,
            seq=tcp.seq,
            ack=tcp.ack if tcp.flags & dpkt.tcp.TH_ACK else None,
            syn=bool(tcp.flags & dpkt.tcp.TH_SYN),
            data=bytes(tcp.data),
            length=_nbytes(ip, packet.length) - tcp.off * 4,
        )


def _parsed(data: bytes) -> "dpkt.ip.IP | dpkt.ip6.IP6":
    return dpkt.ip6.IP6(data) if data[0] >> 4 == 6 else dpkt.ip.IP(data)


def _nbytes(ip: "dpkt.ip.IP | dpkt.ip6.IP6", length: int) -> int:
    """Return the bytes of the TCP segment; a packet above 64 KiB has no length in its header, a short one is padded."""
    if isinstance(ip, dpkt.ip6.IP6):
        return int(ip.plen or length - 40)
    return int((ip.len or length) - ip.hl * 4)


def _address(packed: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)

"""Counters of the network interface that leads to a store: what really crossed the wire, headers included."""

import array
import fcntl
import ipaddress
import os
import re
import socket
import struct
from collections.abc import Iterable, Sequence

import msgspec
import psutil

from harness.errors import MeasurementError, StoreError

_ANY_PORT = 9  # nothing is sent: connecting a UDP socket only asks the kernel for the route
_WRAP_32 = 2**32  # some drivers count in 32 bits
_PLAUSIBLE_AFTER_WRAP = 2**31

_ETHERNET_HEADER = 14
_VETH_MERGES_SINCE = (5, 13)  # before, the switch was there for every interface and did nothing for veth
_SIOCETHTOOL = 0x8946
_ETHTOOL_GDRVINFO = 0x3
_ETHTOOL_GGRO = 0x2B
_DRIVER_INFO_BYTES = 196
_DRIVER_NAME_BYTES = 32


class NicCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What an interface had received at one moment.

    On the loopback interface both counters are None, not 0: ``lo`` books each packet as sent and as received,
    so the two directions of a conversation are summed and requests cannot be told from answers.
    """

    interface: str
    rx_bytes: int | None
    """Received bytes with Ethernet, IP and TCP headers, as far as the driver counts them."""
    rx_packets: int | None

    def since(self, earlier: "NicCounters") -> "NicCounters":
        """Return what was received between `earlier` and now.

        Raises
        ------
        MeasurementError
            The counters are of different interfaces or went backwards by more than a 32-bit wrap explains.
        """
        if earlier.interface != self.interface:
            raise MeasurementError(f"network counters of {earlier.interface} and {self.interface} do not compare")
        return NicCounters(
            interface=self.interface,
            rx_bytes=self._grown(earlier.rx_bytes, self.rx_bytes),
            rx_packets=self._grown(earlier.rx_packets, self.rx_packets),
        )

    def _grown(self, before: int | None, now: int | None) -> int | None:
        if before is None or now is None:
            return None
        if now >= before:
            return now - before
        grown = now + _WRAP_32 - before
        if 0 <= grown < _PLAUSIBLE_AFTER_WRAP:
            return grown
        raise MeasurementError(f"the counters of {self.interface} went backwards: was the interface set up anew?")


def read(interface: str) -> NicCounters:
    """Return the counters of `interface` now.

    Raises
    ------
    MeasurementError
        There is no such interface (any more).
    """
    # nowrap=True would hide a wrap by inventing values that depend on who else has read before.
    counters = psutil.net_io_counters(pernic=True, nowrap=False).get(interface)
    if counters is None:
        raise MeasurementError(f"the network interface {interface!r} does not exist (any more)")
    if _is_loopback(interface):
        return NicCounters(interface=interface, rx_bytes=None, rx_packets=None)
    headers = counters.packets_recv * _uncounted_per_packet(interface)
    return NicCounters(interface=interface, rx_bytes=counters.bytes_recv + headers, rx_packets=counters.packets_recv)


def read_all(interfaces: Sequence[str]) -> tuple[NicCounters, ...]:
    """Return the counters of each of `interfaces` now; `grown` sums what came between two such readings.

    Raises
    ------
    MeasurementError
        There is no such interface (any more).
    """
    return tuple(read(interface) for interface in interfaces)


def grown(earlier: Sequence[NicCounters], now: Sequence[NicCounters]) -> NicCounters:
    """Return what several interfaces received together, as one whose name joins theirs, e.g. ``ens5+ens6``.

    A counter that one of them does not have is None for all.

    Raises
    ------
    MeasurementError
        The readings are of different interfaces, or a counter went backwards.
    """
    if len(earlier) != len(now):
        raise MeasurementError(f"network counters of {_names(earlier)} and {_names(now)} do not compare")
    each = [after.since(before) for before, after in zip(earlier, now, strict=True)]
    return NicCounters(
        interface=_names(now),
        rx_bytes=_sum(counters.rx_bytes for counters in each),
        rx_packets=_sum(counters.rx_packets for counters in each),
    )


def _names(counters: Sequence[NicCounters]) -> str:
    return "+".join(one.interface for one in counters)


def _sum(values: Iterable[int | None]) -> int | None:
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)


def _uncounted_per_packet(interface: str) -> int:
    """Return how many bytes of each received packet's headers the driver leaves out of its count.

    A virtual interface (veth) whose received packets are merged takes the Ethernet header off before it counts.
    """
    merges = _ethtool(interface, _ETHTOOL_GGRO, bytes(4)) == struct.pack("=I", 1)
    if not merges or _kernel() < _VETH_MERGES_SINCE:
        return 0
    driver = _ethtool(interface, _ETHTOOL_GDRVINFO, bytes(_DRIVER_INFO_BYTES - 4))[:_DRIVER_NAME_BYTES].rstrip(b"\0")
    return _ETHERNET_HEADER if driver == b"veth" else 0


def _ethtool(interface: str, command: int, content: bytes) -> bytes:
    """Return the kernel's answer to an ethtool command, without the command; empty where there is none."""
    data = array.array("B", struct.pack("=I", command) + content)
    address, _ = data.buffer_info()
    request = struct.pack("=16sQ16x", interface.encode(), address)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
    except OSError:
        return b""
    return data.tobytes()[4:]


def _kernel() -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2])


def interface_to(host: str) -> str:
    """Return the name of the interface over which packets to `host` leave; no packet is sent.

    Parameters
    ----------
    host
        A name or an IPv4 or IPv6 address. This machine's own addresses are reached over loopback.

    Raises
    ------
    StoreError
        The name does not resolve, or there is no route.
    """
    family, remote = _resolved(host)
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((remote, _ANY_PORT))
            local = _bare(probe.getsockname()[0])
    except OSError as error:
        raise StoreError(f"no route to {host}: {error.strerror}") from error
    owners = _owners()
    if ipaddress.ip_address(local).is_loopback or _bare(remote) in owners:
        return _loopback()
    if local not in owners:
        raise StoreError(f"no interface has the address {local}, from which {host} would be reached")
    return owners[local]


def _resolved(host: str) -> tuple[int, str]:
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), _ANY_PORT, type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise StoreError(f"cannot resolve {host!r}: {error.strerror}") from error
    return family, str(address[0])


def _owners() -> dict[str, str]:
    """Return which interface owns each of this machine's addresses."""
    return {
        _bare(address.address): name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }


def _bare(address: str) -> str:
    """Return the address without an IPv6 scope such as ``%eth0``."""
    return address.partition("%")[0]


def _loopback() -> str:
    return next((name for address, name in _owners().items() if ipaddress.ip_address(address).is_loopback), "lo")


def _is_loopback(interface: str) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address, name in _owners().items() if name == interface)

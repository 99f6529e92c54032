"""Counters of the network interface that leads to a store: what really crossed the wire, headers included."""

import ipaddress
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import psutil

from harness.errors import MeasurementError, StoreError

_ANY_PORT = 9  # nothing is sent: connecting a UDP socket only asks the kernel for the route
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_WRAP_32 = 2**32  # some drivers count in 32 bits
_PLAUSIBLE_AFTER_WRAP = 2**31

_ETHERNET_HEADER = 14
_VETH_MERGES_SINCE = (5, 13)  # before, the switch was there for every interface and did nothing for veth

RECEIVE_OFFLOADS = ("rx-gro", "rx-gro-hw", "rx-lro")
"""What merges received packets: the kernel after they were counted, the hardware before, and the older way of that."""
MERGE_BEFORE_COUNTING = ("rx-gro-hw", "rx-lro")
"""Those of them by which headers are not seen, and so not counted."""

_INTERFACES = Path("/sys/class/net")
_IDLE_SECONDS = 0.25
_NO_SPEED = 65535  # Mbit/s; how drivers spell that they do not know


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


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The interfaces whose counters stand in a result, and what has to be known to read them."""

    interfaces: tuple[str, ...]
    receive_offloads: dict[str, tuple[str, ...] | None]
    """For each interface, those of `RECEIVE_OFFLOADS` that are on; None where its driver does not tell."""
    idle_rx_bytes_per_second: float | None
    """What arrived before anything was asked for: other traffic. None on lo."""


def observe(interfaces: Sequence[str], idle_seconds: float = _IDLE_SECONDS) -> Network:
    """Describe `interfaces`, and count for `idle_seconds` what they receive while no reader is at work.

    On loopback there is nothing to count, and no time is spent.
    """
    before, begin = read_all(interfaces), time.monotonic()
    counts = all(counters.rx_bytes is not None for counters in before)
    if counts:
        time.sleep(idle_seconds)
    received = grown(before, read_all(interfaces)).rx_bytes
    return Network(
        interfaces=tuple(interfaces),
        receive_offloads={interface: receive_offloads(interface) for interface in interfaces},
        idle_rx_bytes_per_second=None if received is None else received / (time.monotonic() - begin),
    )


def receive_offloads(interface: str) -> tuple[str, ...] | None:
    """Return which of `RECEIVE_OFFLOADS` are on, as ``ethtool -k`` says; None where the driver does not tell."""
    from harness.machine import netlink  # slow to import

    try:
        features = netlink.features(interface)
    except OSError:
        return None
    return tuple(name for name in RECEIVE_OFFLOADS if features.get(name)) if features else None


def gbit_s(interface: str) -> float | None:
    """Return the rate that an interface's driver claims, in Gbit/s; None where it claims none, as many virtual ones."""
    stats = psutil.net_if_stats().get(interface)
    return stats.speed / 1000 if stats is not None and 0 < stats.speed < _NO_SPEED else None


def _uncounted_per_packet(interface: str) -> int:
    """Return how many bytes of each received packet's headers the driver leaves out of its count.

    A virtual interface (veth) whose received packets are merged takes the Ethernet header off before it counts.
    """
    from harness.machine import netlink  # slow to import, so the first reading is the slow one

    if _kernel() < _VETH_MERGES_SINCE:
        return 0
    try:
        veth = netlink.kind(interface) == "veth"
        return _ETHERNET_HEADER if veth and netlink.merges_received(interface) else 0
    except OSError:
        return 0


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
    family, remotes = _resolved(host)
    return _interface_to(family, remotes[0], host)


def interfaces_to(host: str) -> tuple[str, ...]:
    """Return the interfaces over which `host` is reached: mostly one, several where the route has several next hops.

    Where a name has several addresses, the routes to all of them count. Interfaces that are bound together are named by
    what binds them (``bond0``), whose counters are their sum. No packet is sent, beyond the name's resolution.

    Raises
    ------
    StoreError
        As `interface_to` does.
    """
    family, remotes = _resolved(host)
    found: dict[str, None] = {}
    for remote in remotes:
        first = _interface_to(family, remote, host)
        found |= dict.fromkeys([first] if _is_loopback(first) else _next_hops(remote) or [first])
    return without_members(list(found))


def without_members(interfaces: Sequence[str]) -> tuple[str, ...]:
    """Return `interfaces` without those that others of them consist of, so that no byte is counted twice."""
    parts = {name.removeprefix("lower_") for each in interfaces for name in _entries(each) if name.startswith("lower_")}
    return tuple(interface for interface in dict.fromkeys(interfaces) if interface not in parts)


def _entries(interface: str) -> list[str]:
    folder = _INTERFACES / interface
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _next_hops(remote: str) -> list[str]:
    """Return the interfaces of all next hops of the route to an address; none where the kernel does not tell.

    The kernel's answer to a connected socket is one of them only, chosen by a hash.
    """
    from harness.machine import netlink  # slow to import

    try:
        return netlink.next_hops(remote)
    except OSError:
        return []


def _interface_to(family: int, remote: str, host: str) -> str:
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


def _resolved(host: str) -> tuple[int, list[str]]:
    """Return the first address family of a host and all its addresses of that family."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), _ANY_PORT, type=socket.SOCK_DGRAM)
    except OSError as error:
        raise StoreError(f"cannot resolve {host!r}: {error.strerror}") from error
    family = found[0][0]
    return family, list(dict.fromkeys(str(address[0]) for kind, _, _, _, address in found if kind == family))


def _owners() -> dict[str, str]:
    """Return which interface owns each of this machine's addresses."""
    return {
        _bare(address.address): name
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if address.family in _INTERNET
    }


def _bare(address: str) -> str:
    """Return the address without an IPv6 scope such as ``%eth0``."""
    return address.partition("%")[0]


def _loopback() -> str:
    return next((name for address, name in _owners().items() if ipaddress.ip_address(address).is_loopback), "lo")


def _is_loopback(interface: str) -> bool:
    # Around each sample, so nothing is looked at but the addresses of this one.
    own = psutil.net_if_addrs().get(interface, ())
    bare = [_bare(address.address) for address in own if address.family in _INTERNET]
    return any(ipaddress.ip_address(address).is_loopback for address in bare)

"""Counters of the network interface that leads to a store: what really crossed the wire, headers included."""

import array
import fcntl
import ipaddress
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

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
_ETHTOOL_GSTRINGS = 0x1B
_ETHTOOL_GGRO = 0x2B
_ETHTOOL_GSSET_INFO = 0x37
_ETHTOOL_GFEATURES = 0x3A
_FEATURE_NAMES = 4  # the set of strings that names what an interface can be told to do
_FEATURE_NAME_BYTES = 32
_DRIVER_INFO_BYTES = 196
_DRIVER_NAME_BYTES = 32

RECEIVE_OFFLOADS = ("rx-gro", "rx-gro-hw", "rx-lro")
"""What merges received packets: the kernel after they were counted, the hardware before, and the older way of that."""
MERGE_BEFORE_COUNTING = ("rx-gro-hw", "rx-lro")
"""Those of them by which headers are not seen, and so not counted."""

_INTERFACES = Path("/sys/class/net")
_SYSTEM_PATH = "/usr/sbin:/sbin"  # where iproute2 is, often not on the PATH of an ordinary user
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
    features = _features(interface)
    return tuple(name for name in RECEIVE_OFFLOADS if features.get(name)) if features else None


def _features(interface: str) -> dict[str, bool]:
    """Return every feature of an interface by the kernel's name for it, and whether it is on."""
    answer = _ethtool(interface, _ETHTOOL_GSSET_INFO, struct.pack("=IQI", 0, 1 << _FEATURE_NAMES, 0))
    count = struct.unpack("=IQI", answer)[2] if answer else 0
    blocks = -(-count // 32)
    head = struct.pack("=II", _FEATURE_NAMES, count)
    names = _ethtool(interface, _ETHTOOL_GSTRINGS, head + bytes(count * _FEATURE_NAME_BYTES))[len(head) :]
    words = _ethtool(interface, _ETHTOOL_GFEATURES, struct.pack("=I", blocks) + bytes(blocks * 16))[4:]
    if not count or not names or not words:
        return {}
    active = [struct.unpack_from("=4I", words, 16 * block)[2] for block in range(blocks)]
    return {
        _text(names[_FEATURE_NAME_BYTES * i : _FEATURE_NAME_BYTES * (i + 1)]): bool(active[i // 32] >> i % 32 & 1)
        for i in range(count)
    }


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def gbit_s(interface: str) -> float | None:
    """Return the rate that an interface's driver claims, in Gbit/s; None where it claims none, as many virtual ones."""
    stats = psutil.net_if_stats().get(interface)
    return stats.speed / 1000 if stats is not None and 0 < stats.speed < _NO_SPEED else None


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
    """Return the interfaces of all next hops of the route to an address; none where iproute2 cannot tell.

    The kernel's answer to a connected socket is one of them only, chosen by a hash.
    """
    ip = shutil.which("ip") or shutil.which("ip", path=_SYSTEM_PATH)
    if ip is None:
        return []
    command = [ip, "-json", "route", "get", "fibmatch", remote]
    done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    try:
        routes = msgspec.json.decode(done.stdout, type=list[_Route]) if done.returncode == 0 else []
    except msgspec.MsgspecError:
        return []
    hops = [hop.dev for route in routes for hop in (route.nexthops or [route])]
    return [dev for dev in dict.fromkeys(hops) if dev]


class _Route(msgspec.Struct):
    """A route as iproute2 prints it, or one of its next hops; with several of those it has no device of its own."""

    dev: str = ""
    nexthops: list["_Route"] = []


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
        if address.family in (socket.AF_INET, socket.AF_INET6)
    }


def _bare(address: str) -> str:
    """Return the address without an IPv6 scope such as ``%eth0``."""
    return address.partition("%")[0]


def _loopback() -> str:
    return next((name for address, name in _owners().items() if ipaddress.ip_address(address).is_loopback), "lo")


def _is_loopback(interface: str) -> bool:
    return any(ipaddress.ip_address(address).is_loopback for address, name in _owners().items() if name == interface)

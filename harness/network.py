"""Counters of the network interface that leads to a store: what really crossed the wire, headers included."""

import ipaddress
import socket

import msgspec
import psutil

from harness.errors import MeasurementError, StoreError

_ANY_PORT = 9  # nothing is sent: connecting a UDP socket only asks the kernel for the route
_WRAP_32 = 2**32  # some drivers count in 32 bits
_PLAUSIBLE_AFTER_WRAP = 2**31


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
    return NicCounters(interface=interface, rx_bytes=counters.bytes_recv, rx_packets=counters.packets_recv)


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

"""Which interface leads to a store, and what its counters say between two moments."""

import socket
from types import SimpleNamespace

import psutil
import pytest

from harness import network
from harness.errors import MeasurementError, StoreError
from harness.network import NicCounters

_2_32 = 2**32


def counters(rx_bytes: int | None, rx_packets: int | None = 0, interface: str = "eth0") -> NicCounters:
    return NicCounters(interface=interface, rx_bytes=rx_bytes, rx_packets=rx_packets)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_addresses(host):
    assert network.interface_to(host) == "lo"


def test_ipv6_loopback():
    if not any(a.address == "::1" for addresses in psutil.net_if_addrs().values() for a in addresses):
        pytest.skip("this machine has no IPv6")
    assert network.interface_to("::1") == network.interface_to("[::1]") == "lo"


def _own_address() -> tuple[str, str]:
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if name != "lo" and address.family == socket.AF_INET:
                return name, address.address
    pytest.skip("this machine has no interface but lo")


def test_own_addresses_are_reached_over_loopback():
    assert network.interface_to(_own_address()[1]) == "lo"


def test_a_neighbour_is_reached_over_its_network():
    name, address = _own_address()
    neighbour = address.rpartition(".")[0] + (".1" if not address.endswith(".1") else ".2")
    assert network.interface_to(neighbour) == name


def test_an_unknown_host():
    with pytest.raises(StoreError, match=r"no\.such\.host\.invalid"):
        network.interface_to("no.such.host.invalid")


def test_loopback_counters_are_unknown_not_zero():
    before = network.read("lo")
    assert before == counters(None, None, "lo")
    assert network.read("lo").since(before) == counters(None, None, "lo")


def test_a_vanished_interface():
    with pytest.raises(MeasurementError, match="nope0"):
        network.read("nope0")


def test_read(monkeypatch):
    seen = {"eth0": SimpleNamespace(bytes_recv=7, packets_recv=3)}
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: seen)
    assert network.read("eth0") == counters(7, 3)


@pytest.mark.parametrize(
    ("before", "now", "grown"),
    [(5, 5, 0), (5, 12, 7), (_2_32 - 3, 4, 7), (3 * _2_32, 3 * _2_32 + 1, 1), (_2_32 - 1, _2_32 + 1, 2)],
)
def test_growth_and_a_32_bit_wrap(before, now, grown):
    assert counters(now, now).since(counters(before, before)) == counters(grown, grown)


@pytest.mark.parametrize(("before", "now"), [(1000, 0), (3 * _2_32, 5), (_2_32 - 5, _2_32 - 10)])
def test_counters_that_went_backwards(before, now):
    with pytest.raises(MeasurementError, match="eth0 went backwards"):
        counters(now).since(counters(before))


def test_counters_of_two_interfaces():
    with pytest.raises(MeasurementError, match="eth0 and eth1"):
        counters(2, interface="eth1").since(counters(1))

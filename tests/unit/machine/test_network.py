"""Which interface leads to a store, and what its counters say between two moments."""

import json
import shutil
import socket
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from harness.errors import MeasurementError, StoreError
from harness.machine import network
from harness.machine.network import NicCounters
from harness.measure import evidence
from harness.measure.evidence import Evidence
from harness.paths import ROOT
from harness.results.sample import FLAG_OTHER_TRAFFIC, RequestCounts

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


def test_several_interfaces_are_summed():
    before = (counters(100, 1), counters(_2_32 - 5, 10, "eth1"))
    now = (counters(150, 3), counters(5, 14, "eth1"))  # the second counts in 32 bits
    assert network.grown(before, now) == counters(60, 6, "eth0+eth1")


def test_a_sum_with_loopback_is_unknown():
    before = (counters(100, 1), counters(None, None, "lo"))
    assert network.grown(before, before) == counters(None, None, "eth0+lo")


def test_sums_of_different_interfaces_do_not_compare():
    with pytest.raises(MeasurementError, match="eth0 and eth0\\+eth1"):
        network.grown((counters(1),), (counters(1), counters(1, 0, "eth1")))


def test_a_part_of_another_interface_is_not_counted_twice(monkeypatch, tmp_path):
    for name in ("bond0", "eth0", "eth1", "eth2"):
        (tmp_path / name).mkdir()
    for part in ("lower_eth0", "lower_eth1"):
        (tmp_path / "bond0" / part).touch()
    monkeypatch.setattr(network, "_INTERFACES", tmp_path)
    assert network.without_members(["eth0", "bond0", "eth2", "eth1", "bond0"]) == ("bond0", "eth2")


def test_loopback_is_observed_without_waiting():
    seen = network.observe(["lo"], idle_seconds=3600)
    assert (seen.interfaces, seen.idle_rx_bytes_per_second) == (("lo",), None)
    assert seen.receive_offloads.keys() == {"lo"}


def test_the_idle_baseline(monkeypatch):
    readings = iter([(counters(1000, 1),), (counters(51_000, 40),)])
    monkeypatch.setattr(network, "read_all", lambda _: next(readings))
    rate = network.observe(["eth0"], idle_seconds=0.05).idle_rx_bytes_per_second
    assert rate is not None
    assert 0 < rate <= 50_000 / 0.05


@pytest.mark.skipif(shutil.which("ethtool", path="/usr/sbin:/usr/bin:/sbin") is None, reason="no ethtool")
def test_offloads_are_those_that_ethtool_shows():
    ethtool = shutil.which("ethtool", path="/usr/sbin:/usr/bin:/sbin")
    shown = {"generic-receive-offload": "rx-gro", "large-receive-offload": "rx-lro", "rx-gro-hw": "rx-gro-hw"}
    for interface in psutil.net_if_addrs():
        done = subprocess.run([str(ethtool), "-k", interface], capture_output=True, text=True, check=False)
        lines = [line.strip().split(": ") for line in done.stdout.splitlines() if ": " in line]
        on = {shown[name] for name, state, *_ in lines if name in shown and state.startswith("on")}
        if lines:
            assert set(network.receive_offloads(interface) or ()) == on, interface


def test_an_interface_that_does_not_exist_has_no_known_offloads():
    assert network.receive_offloads("nope0") is None
    assert network.gbit_s("nope0") is None


MULTIPATH = """
import json, socket
from pyroute2 import IPRoute
from harness.machine import network
with IPRoute() as kernel:
    hops = []
    for n in (1, 2):
        kernel.link("add", ifname=f"one{n}", kind="veth", peer=f"two{n}")
        one, two = socket.if_nametoindex(f"one{n}"), socket.if_nametoindex(f"two{n}")
        kernel.addr("add", index=one, address=f"198.19.{n}.1", prefixlen=24)
        kernel.addr("add", index=one, address=f"fd00:{n}::1", prefixlen=64)
        kernel.link("set", index=one, state="up")
        kernel.link("set", index=two, state="up")
        hops.append({"gateway": f"198.19.{n}.2", "oif": one})
    kernel.route("add", dst="198.18.7.0/24", multipath=hops)
    kernel.route("add", dst="198.18.8.0/24", gateway="198.19.2.2", oif=hops[1]["oif"])
    for n, hop in enumerate(hops, 1):
        kernel.route("append", dst="fd00:7::/64", gateway=f"fd00:{n}::2", oif=hop["oif"])
addresses = ("198.18.7.7", "198.18.8.8", "198.19.1.1", "198.19.1.9")
ipv6 = ("fd00:7::7", "fd00:8::8")
print(json.dumps([*map(network.interfaces_to, addresses), *map(network._next_hops, ipv6)]))
"""


def in_a_network_of_its_own(script: str) -> str:
    command = [sys.executable, "-m", "harness.machine.own_network", sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if "may not make" in done.stderr or "Operation not" in done.stderr:
        pytest.skip(f"no network of one's own here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_route_over_several_interfaces():
    found = list(map(sorted, json.loads(in_a_network_of_its_own(MULTIPATH))))  # in no order that the kernel promises
    assert found == [["one1", "one2"], ["one2"], ["lo"], ["one1"], ["one1", "one2"], []]


def test_importing_costs_no_netlink_library():
    script = "import sys; from harness.machine import network; from harness.store import veth; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pyroute2" not in done.stdout.split()


MIB = 2**20


def received(rx_bytes, rx_packets, idle=None):
    return Evidence(store=None, nic=counters(rx_bytes, rx_packets), idle_rx_bytes_per_second=idle)


def wire(body, requests, *, answer_headers=300, packet=1448, tls=False):
    """What an interface receives of bodies in answers: HTTP headers, TLS records of 16 KiB, packets."""
    content = body + answer_headers * requests
    if tls:
        content += 22 * (content // 16384 + 2 * requests)
    packets = -(-content // packet) + requests
    return content + 66 * packets, packets


@pytest.mark.parametrize("packet", [1448, 8949, 65160])
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(("body", "requests"), [(0, 1), (32 * 1024, 5), (256 * MIB, 100), (MIB, 1)])
def test_a_clean_sample_leaves_nothing_unexplained(packet, tls, body, requests):
    rx_bytes, packets = wire(body, requests, packet=packet, tls=tls)
    request_counts = RequestCounts(requests=requests, fetched_bytes=body)
    assert evidence.other_rx_bytes(received(rx_bytes, packets), 1.0, request_counts, encrypted=tls) == 0


@pytest.mark.parametrize(("extra", "flags"), [(0, []), (2 * MIB, []), (8 * MIB, [FLAG_OTHER_TRAFFIC])])
def test_other_traffic_is_noticed_above_a_fiftieth(extra, flags):
    rx_bytes, packets = wire(256 * MIB, 100)
    other_packets = -(-extra // 1448)
    seen = received(rx_bytes + extra + 66 * other_packets, packets + other_packets)
    other = evidence.other_rx_bytes(seen, 1.0, RequestCounts(requests=100, fetched_bytes=256 * MIB), encrypted=False)
    assert other is not None
    assert max(0, extra - 100 * 1024) <= other <= extra + 66 * other_packets
    assert evidence._traffic_flags(seen.nic, other) == flags


def test_where_nobody_counts_bodies_the_idle_baseline_stands_for_other_traffic():
    seen = received(100 * MIB, 70_000, idle=8.0 * MIB)
    other = evidence.other_rx_bytes(seen, 0.5, None, encrypted=True)
    assert other == 4 * MIB
    assert evidence._traffic_flags(seen.nic, other) == [FLAG_OTHER_TRAFFIC]
    quiet = received(100 * MIB, 70_000, idle=0.5 * MIB)
    assert evidence._traffic_flags(quiet.nic, evidence.other_rx_bytes(quiet, 0.5, None, encrypted=True)) == []


def test_on_loopback_other_traffic_is_unknown():
    nothing = received(None, None)
    assert evidence.other_rx_bytes(nothing, 1.0, RequestCounts(requests=1), encrypted=False) is None
    assert evidence._traffic_flags(nothing.nic, None) == []

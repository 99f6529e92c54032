"""The store behind a virtual network: counters against an independent capture, its rate, and nothing left over."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import BadUseError
from harness.machine import network
from harness.measure.conductor import Conductor, Plan
from harness.paths import ROOT
from harness.results.sample import FLAG_OTHER_TRAFFIC, NETWORK_LIMIT
from harness.store import lifecycle, veth
from harness.store.lifecycle import StoreSettings
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create

WHY_NOT = veth.obstacle()
pytestmark = [
    pytest.mark.skipif(WHY_NOT is not None, reason=f"no virtual network here: {WHY_NOT}"),
    pytest.mark.slow,
]
ETH_P_ALL = 3
OUTGOING = 4
WIDE = ["--name", "wide", "--shape", "96,512,1024", "--chunks", "1,512,1024", "--shards", "16,512,1024"]
WIDE += ["--codec", "none"]


class Capture:
    """Counts what arrives at an interface, packet by packet, as a second source beside its counters."""

    def __init__(self, interface):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)  # nothing until it is bound
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
        self._socket.bind((interface, ETH_P_ALL))
        self._socket.settimeout(0.2)
        self.bytes = self.packets = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._count)

    def _count(self):
        while not self._stop.is_set():
            try:
                packet, address = self._socket.recvfrom(1 << 17)
            except TimeoutError:
                continue
            if address[2] == OUTGOING:
                continue
            # Merged on arrival: the payload of several packets, each of which had 14 + 20 + 32 bytes of headers.
            payload = len(packet) - 66
            packets = max(1, -(-payload // 1448))
            self.bytes += payload + 66 * packets
            self.packets += packets

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        time.sleep(0.3)
        self._stop.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def started(own_state, request):
    """A store on the link, by TLS where the test asks for it."""
    state = lifecycle.start(StoreSettings(profile="s3", link="veth", tls=getattr(request, "param", False)))
    create("--preset", "tiny")
    return state


def interfaces():
    return {name for name in psutil.net_if_addrs() if name.startswith("zcb-")}


@pytest.mark.parametrize(
    ("pattern", "dataset", "asked", "started"),
    [
        ("whole_array", "large", {}, False),
        ("whole_array", "large", {}, True),
        ("chunks_of_one_shard", "small", {"gap": 1}, False),
    ],
    indirect=["started"],
)
def test_the_counters_are_those_of_an_independent_capture(started, pattern, dataset, asked):
    workload = create_workload(pattern, resolve("embedded"), dataset=dataset, parameters=Parameters(**asked))
    interface = network.interface_to(urlsplit(started.endpoint).hostname or "")
    assert interface == started.link.interface
    with Capture(interface) as capture:
        before = network.read(interface)
        with Conductor(["zarr-python+obstore"], plan=Plan(samples=3, trials=1)) as conductor:
            rows = {row.reader: row for row in conductor.measure(workload)}
        counted = network.read(interface).since(before)
    assert counted.rx_bytes == pytest.approx(capture.bytes, rel=0.005)
    for sample in rows["zarr-python+obstore"].samples:
        assert sample.nic_rx_bytes is not None
        assert sample.nic_rx_packets is not None
        assert sample.fetched_bytes is not None
        assert sample.requests is not None
        assert sample.nic_rx_bytes > sample.fetched_bytes
        http = sample.nic_rx_bytes - 66 * sample.nic_rx_packets - sample.fetched_bytes
        records = 0.005 * sample.fetched_bytes if workload.target.is_encrypted else 0.0  # docs/network.md
        assert 0 < http < 600 * sample.requests + records  # the responses' own headers


SEND = """
import os, socket, sys, time
with open(f"/proc/{sys.argv[2]}/ns/net") as theirs:
    os.setns(theirs.fileno())
there = (sys.argv[1], 9)
end = time.monotonic() + 120  # at most: the test stops it
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    while time.monotonic() < end:
        for _ in range(16):
            s.sendto(bytes(1400), there)
        time.sleep(0.001)
"""


@pytest.fixture
def other_traffic(started):
    """Datagrams from the store's side of the link, at most 22 MB/s."""
    client = psutil.net_if_addrs()[started.link.interface][0].address
    process = subprocess.Popen([sys.executable, "-c", SEND, client, str(started.pid)])
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@pytest.mark.alone
@pytest.mark.parametrize("busy", [False, True])
def test_other_traffic_is_noticed(started, busy, request):
    workload = create_workload("chunks_of_one_shard", resolve("embedded"), parameters=Parameters(gap=1))
    if busy:
        sender = request.getfixturevalue("other_traffic")
        wait_for_traffic(started.link.interface)
    with Conductor(["zarr-python+obstore"], plan=Plan(samples=5, trials=1)) as conductor:
        rows = conductor.measure(workload)
    for row in rows:
        assert row.network is not None
        assert row.network.interfaces == (started.link.interface,)
        offloads = row.network.receive_offloads[started.link.interface]
        assert offloads is not None
        assert "rx-gro" in offloads
        idle = row.network.idle_rx_bytes_per_second
        assert idle is not None
        assert (idle > 1e5) == busy
        flagged = [FLAG_OTHER_TRAFFIC in sample.flags for sample in row.samples]
        # A sample takes 45 ms, in which a loaded machine may not let the sender run at all, or send packets again.
        assert any(flagged) if busy else sum(flagged) < 3, [sample.other_rx_bytes for sample in row.samples]
    if busy:
        assert sender.poll() is None


def wait_for_traffic(interface):
    before, deadline = network.read(interface), time.monotonic() + 30
    while (network.read(interface).since(before).rx_bytes or 0) < 100_000:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.alone
def test_the_link_keeps_its_rate_and_figures_of_it_stand_apart(started, tmp_path):
    target = resolve("embedded:s3+veth")
    assert target.identity == "embedded:s3+veth"
    with pytest.raises(BadUseError, match=r"is .embedded:s3\+veth., not .embedded:s3.: "):
        resolve("embedded:s3")
    create(*WIDE)
    workload = create_workload("whole_array", target, dataset="wide")
    with Conductor([], plan=Plan(samples=3, trials=1)) as conductor:
        (limit,) = (row for row in conductor.measure(workload) if row.reader == NETWORK_LIMIT)
    rates = [sample.nic_rx_bytes * 8 / sample.seconds / 1e9 for sample in limit.samples if sample.nic_rx_bytes]
    assert len(rates) == len(limit.samples)
    assert all(rate < 1.05 * 2.0 for rate in rates), rates
    assert max(rates) > 0.6 * 2.0, rates  # the cap decides, not a loopback of many times that


def test_two_stores_at_once_and_nothing_is_left(started, tmp_path, monkeypatch):
    first = started.link.interface
    assert first in interfaces()
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "other"))
    second = lifecycle.start(StoreSettings(profile="loopback", link="veth"))
    assert second.link.interface != first
    assert second.endpoint.split(":")[1] != started.endpoint.split(":")[1]
    assert lifecycle.stop()
    assert second.link.interface not in interfaces()
    assert first in interfaces()


def test_a_killed_store_leaves_no_trace_for_the_next(started):
    interface = started.link.interface
    os.kill(started.pid, signal.SIGKILL)
    lifecycle._children.pop(started.pid).wait()
    again = lifecycle.start(StoreSettings(profile="loopback", link="veth"))
    assert again.link.interface == interface
    assert resolve("embedded").endpoint == again.endpoint
    lifecycle.stop()
    assert interface not in interfaces()


def test_status_names_the_link(started):
    done = CliRunner().invoke(zcb, ["store", "status", "--json"])
    link = json.loads(done.stdout)["link"]
    assert (link["name"], link["gbit_s"], link["mtu"]) == ("veth", 2.0, 1500)


INSIDE = "zcb store start --profile s3 --link veth && zcb store status --json && zcb store stop"


def test_a_network_of_ones_own_needs_neither_root_nor_programs(own_state, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").symlink_to(str(shutil.which("sh")))  # no ip, tc, ethtool or unshare
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tmp_path / "bin")])
    command = [sys.executable, "-m", "harness.cli", "netns", "--", "sh", "-c", INSIDE]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if "may not make" in done.stderr:
        pytest.skip(f"user namespaces are switched off here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert '"name":"veth"' in done.stdout

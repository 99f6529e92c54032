"""What the kernel is asked about interfaces, and what it answers: in networks that the tests make."""

import errno
import socket
import subprocess
import sys

import pytest
from pyroute2 import IPRoute

from harness.errors import BadUseError
from harness.machine import netlink
from harness.paths import ROOT
from harness.store import veth

WHY_NOT = veth.obstacle()
needs_a_network = pytest.mark.skipif(WHY_NOT is not None, reason=f"no virtual network here: {WHY_NOT}")


@pytest.fixture
def inside():
    """A namespace with a pair of interfaces, ``store0`` and ``client0``."""
    with veth.Namespace() as namespace:
        namespace.call(netlink.add_pair, "store0", "client0", here={"mtu": 1500}, there={"mtu": 1400})
        yield namespace


def queue(interface):
    with IPRoute() as kernel:
        (found,) = kernel.tc("dump", index=socket.if_nametoindex(interface))
    return found


@needs_a_network
def test_a_pair(inside):
    assert inside.call(netlink.kind, "store0") == "veth"
    inside.call(netlink.remove, "client0")
    with pytest.raises(OSError, match="no interface"):
        inside.call(netlink.kind, "store0")


@needs_a_network
def test_features_are_switched_by_pattern_and_nothing_else_is(inside):
    before = inside.call(netlink.features, "store0")
    inside.call(netlink.switch_features, "store0", {"tx-tcp*-segmentation": False, "rx-gro": True})
    after = inside.call(netlink.features, "store0")
    changed = {name for name in after if before[name] != after[name]}
    assert changed == {name for name in before if before[name] and name.startswith("tx-tcp")} | {"rx-gro"}
    assert inside.call(netlink.merges_received, "store0")
    inside.call(netlink.switch_features, "store0", {"rx-gro": False})
    assert not inside.call(netlink.merges_received, "store0")


@needs_a_network
@pytest.mark.parametrize("rate", [125_000, 250_000_000, 2**32 - 1, 12_500_000_000])
def test_a_token_bucket_takes_the_place_of_a_plain_queue(inside, rate):
    inside.call(netlink.queue_plainly, "store0", 1000)
    plain = inside.call(queue, "store0")
    assert (plain.get_attr("TCA_KIND"), plain.get_nested("TCA_OPTIONS")["limit"]) == ("pfifo", 1000)
    inside.call(netlink.limit_rate, "store0", rate, burst=65536, waiting=2**26)
    bucket = inside.call(queue, "store0")
    parameters = bucket.get_nested("TCA_OPTIONS", "TCA_TBF_PARMS")
    assert bucket.get_attr("TCA_KIND") == "tbf"
    assert (parameters["rate"], parameters["limit"]) == (min(rate, 2**32 - 1), 2**26)
    ticks = 65536 / rate * 1e9 / 64  # of 64 ns
    assert parameters["buffer"] == pytest.approx(ticks, abs=1)


@needs_a_network
@pytest.mark.parametrize(
    ("constant", "words"),
    [("_PAIR", "no virtual interfaces (module veth)"), ("_BUCKET", "no token bucket filter (module sch_tbf)")],
)
def test_what_a_kernel_lacks_is_named_in_one_line(monkeypatch, constant, words):
    monkeypatch.setattr(netlink, constant, "no-such-kind")
    obstacle = veth.obstacle()
    assert obstacle is not None
    assert f"this kernel has {words}; or take --link lo" in obstacle
    assert "\n" not in obstacle


def test_another_refusal_has_the_kernels_words(monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    monkeypatch.setattr(netlink, "limit_rate", full)
    with pytest.raises(BadUseError, match=r"^--link veth cannot limit the rate: No buffer space available; or take"):
        veth.limit_rate("store0", 1.0)


@pytest.mark.parametrize("interface", ["nope0", "a-name-that-is-too-long-for-any"])
def test_an_interface_that_is_not_there(interface):
    for ask in (netlink.features, netlink.merges_received, netlink.kind, netlink.remove):
        with pytest.raises(OSError):
            ask(interface)


FORBIDDEN = """
import os, pathlib, sys
user = os.getuid()
os.unshare(os.CLONE_NEWUSER)
pathlib.Path("/proc/self/uid_map").write_text(f"0 {user} 1")
pathlib.Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(sys.executable, [sys.executable, "-m", "harness.machine.own_network", "true"])
"""


def test_a_network_of_ones_own_that_is_not_allowed():
    done = subprocess.run([sys.executable, "-c", FORBIDDEN], cwd=ROOT, capture_output=True, text=True, check=False)
    if "Traceback" in done.stderr:
        pytest.skip(f"user namespaces are switched off here: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "may not make a user and network namespace" in line

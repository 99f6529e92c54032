"""Interfaces, queues, offloads and routes, asked of the kernel itself: no program of iproute2 or ethtool is needed.

Everything is about the network namespace of the thread that calls, and what the kernel refuses is an OSError with its
code. pyroute2 takes 0.3 s to import, so this module is imported where it is used, and runs an event loop, so that no
coroutine may call it. Its netlink side of ethtool has no offloads: they are read and switched by the older ioctl, also
pyroute2's, which every kernel has.
"""

import contextlib
import ctypes
import errno
import socket
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import ETHTOOL_GGRO, EthtoolError, EthtoolValue, IoctlEthtool
from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, nla, nlmsg
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTM_NEWQDISC, TC_H_ROOT
from pyroute2.netlink.rtnl.tcmsg import sched_tbf, tcmsg
from pyroute2.netlink.rtnl.tcmsg.common import LINKLAYER_ETHERNET

_FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: the whole route, not the one next hop that a packet would take
_NO_ADDRESS_OF_ITS_OWN = 1  # IN6_ADDR_GEN_MODE_NONE
_PAIR = "veth"
_BUCKET = "tbf"
_HIGHEST_32_BIT = 2**32 - 1


def features(interface: str) -> dict[str, bool]:
    """Return every feature of an interface by the kernel's name for it, and whether it is on."""
    with _ethtool(interface) as tool:
        return {name: on for name, on, *_ in tool.get_features()}


def merges_received(interface: str) -> bool:
    """Whether the kernel merges the packets that an interface receives (gro); takes 30 us."""
    with _ethtool(interface) as tool:
        answer = EthtoolValue(cmd=ETHTOOL_GGRO)
        tool.ifreq.value = ctypes.pointer(answer)
        tool.ioctl()
        return bool(answer.data)


def switch_features(interface: str, wanted: Mapping[str, bool]) -> None:
    """Switch features of an interface on or off where they are not so yet.

    Parameters
    ----------
    wanted
        By the kernel's names, in which ``*`` stands for anything: kernels differ in how many of a kind they have.
    """
    with _ethtool(interface) as tool:
        features = tool.get_features()
        for name, is_on, can_change, *_ in features:
            for on in [on for pattern, on in wanted.items() if fnmatch(name, pattern)]:
                if can_change and is_on != on:
                    features[name] = on
        tool.set_features(features)


def kind(interface: str) -> str | None:
    """Return what an interface is where it is virtual, e.g. ``veth``; None for a card. The kernel is asked once."""
    return _kind(socket.if_nametoindex(interface))


@cache
def _kind(index: int) -> str | None:
    with _rtnetlink() as kernel:
        (link,) = kernel.link("get", index=index)
    name = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND")
    return None if name is None else str(name)


def next_hops(remote: str) -> list[str]:
    """Return the interfaces of all next hops of the route to an address, in the route's order."""
    with _rtnetlink() as kernel:
        routes = kernel.route("get", dst=remote, flags=_FIB_MATCH)
    hops = [hop for route in routes for hop in route.get_attr("RTA_MULTIPATH") or [{"oif": route.get_attr("RTA_OIF")}]]
    return list(dict.fromkeys(socket.if_indextoname(hop["oif"]) for hop in hops if hop["oif"]))


def add_pair(interface: str, peer: str, *, here: Mapping[str, Any], there: Mapping[str, Any]) -> None:
    """Make a pair of virtual interfaces (veth).

    Parameters
    ----------
    here, there
        Properties of `interface` and of `peer`: ``address`` (Ethernet), ``mtu``, and ``net_ns_fd``, an open file of the
        namespace to put it in.
    """
    with _rtnetlink() as kernel:
        kernel.link("add", ifname=interface, kind=_PAIR, **here, peer={"ifname": peer, **there})


def remove(interface: str) -> None:
    """Remove an interface; the other end of a pair goes with it."""
    with _rtnetlink() as kernel:
        kernel.link("del", index=socket.if_nametoindex(interface))


def bring_up(interface: str) -> None:
    """Let an interface send and receive."""
    with _rtnetlink() as kernel:
        kernel.link("set", index=socket.if_nametoindex(interface), state="up")


def leave_without_ipv6(interface: str) -> None:
    """Give an interface no IPv6 address of its own when it is brought up."""
    mode = {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", _NO_ADDRESS_OF_ITS_OWN)]}
    with _rtnetlink() as kernel:
        index = socket.if_nametoindex(interface)
        kernel.link("set", index=index, IFLA_AF_SPEC={"attrs": [("AF_INET6", mode)]})


def add_address(interface: str, address: IPv4Address, prefix: int) -> None:
    """Give an interface an address in a network of `prefix` bits."""
    with _rtnetlink() as kernel:
        kernel.addr("add", index=socket.if_nametoindex(interface), address=str(address), prefixlen=prefix)


def set_neighbour(interface: str, address: IPv4Address, hardware_address: str) -> None:
    """Say for good which Ethernet address a neighbour has, so that it is never asked for."""
    index = socket.if_nametoindex(interface)
    with _rtnetlink() as kernel:
        kernel.neigh("replace", ifindex=index, dst=str(address), lladdr=hardware_address, state="permanent")


def queue_plainly(interface: str, packets: int) -> None:
    """Let at most `packets` wait before an interface, first in, first out (pfifo)."""
    with _rtnetlink() as kernel:
        kernel.tc("replace", "pfifo", socket.if_nametoindex(interface), limit=packets)


def limit_rate(interface: str, rate: int, *, burst: int, waiting: int) -> None:
    """Limit what leaves by an interface with a token bucket (tbf).

    Parameters
    ----------
    rate
        Bytes per second, Ethernet headers included.
    burst
        Bytes that an idle interface saves up.
    waiting
        Bytes that may wait; what comes on top is dropped.
    """
    parameters = {"rate": min(rate, _HIGHEST_32_BIT), "rate___reserved": LINKLAYER_ETHERNET, "limit": waiting}
    bucket = [("TCA_TBF_PARMS", parameters), ("TCA_TBF_RATE64", rate), ("TCA_TBF_BURST", burst)]
    message = _BucketMessage()
    message["index"], message["parent"] = socket.if_nametoindex(interface), TC_H_ROOT
    message["attrs"] = [("TCA_KIND", _BUCKET), ("TCA_OPTIONS", {"attrs": bucket})]
    message["header"]["type"] = RTM_NEWQDISC
    message["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    with _rtnetlink() as kernel:
        kernel.nlm_request_batch([message])


class _BucketMessage(nlmsg):  # type: ignore[misc]
    """A token bucket with what pyroute2's lacks: rates above 34 Gbit/s, and a burst in bytes, not in microseconds.

    It is not derived from pyroute2's, which looks its attributes up once for itself and all that is derived from it.
    """

    fields = tcmsg.fields
    nla_map = (("TCA_UNSPEC", "none"), ("TCA_KIND", "asciiz"), ("TCA_OPTIONS", "options"))

    class options(nla):  # type: ignore[misc]  # noqa: N801 - pyroute2 finds it by the name in the map
        """The kernel's numbers of these attributes are their places in the map."""

        nla_map = (
            ("TCA_TBF_UNSPEC", "none"),
            ("TCA_TBF_PARMS", "parameters"),
            ("TCA_TBF_RTAB", "hex"),
            ("TCA_TBF_PTAB", "hex"),
            ("TCA_TBF_RATE64", "uint64"),
            ("TCA_TBF_PRATE64", "uint64"),
            ("TCA_TBF_BURST", "uint32"),
        )
        parameters = sched_tbf.options.tbf_parms


@contextlib.contextmanager
def _rtnetlink() -> Iterator[IPRoute]:
    try:
        with IPRoute(groups=0, ext_ack=True) as kernel:
            yield kernel
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[-1])) from error


@contextlib.contextmanager
def _ethtool(interface: str) -> Iterator[IoctlEthtool]:
    try:
        with contextlib.closing(IoctlEthtool(interface)) as tool:
            yield tool
    except (EthtoolError, IndexError) as error:  # the second: a name that is too long to be one
        raise OSError(errno.EOPNOTSUPP, f"{interface} cannot do that") from error

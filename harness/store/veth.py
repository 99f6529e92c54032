"""A network of the store's own: a namespace behind a pair of virtual interfaces, whose rate the kernel keeps.

The counters of the client's end then count the answers alone, each packet once and with its headers, as a network card
does. Loopback cannot: it books every packet as sent and as received.

The namespace has no name. It lasts as long as a process in it (the store) or the thread that made it, so a crash leaves
nothing for long: with the store the namespace goes, and with that both interfaces. The client's end is removed here all
the same, since the kernel takes its time.
"""

import hashlib
import ipaddress
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Self

import psutil

from harness.errors import BadUseError
from harness.store.state import Link, store_dir

STORE_END = "store0"
"""Name of the store's interface, inside its namespace."""
MTU = 1500

_NETWORK = ipaddress.IPv4Network("198.18.0.0/15")  # set aside for measuring networks: no host on the internet has it
_PAIRS = _NETWORK.num_addresses // 2
_PACKAGES = {"ip": "iproute2", "tc": "iproute2", "ethtool": "ethtool"}
_SYSTEM_PATH = "/usr/sbin:/sbin"  # where the tools are, often not on the PATH of an ordinary user
_BURST = "64kb"  # what an idle link saves up: one turn, as the store's own pacing has it
_QUEUE = "64mb"  # more than all connections have under way, since a full queue drops packets
_MEANINGS = {
    "unknown device type": "this kernel has no virtual interfaces (module veth)",
    "qdisc kind is unknown": "this kernel has no token bucket filter (module sch_tbf)",
    "operation not permitted": "not permitted",
}

Run = Callable[..., None]


class Namespace:
    """A new network namespace, and the thread in it that starts everything inside.

    Raises
    ------
    BadUseError
        On entering: a tool is missing, or the kernel does not allow it.
    """

    def __init__(self) -> None:
        self._inside = ThreadPoolExecutor(1, thread_name_prefix="namespace")

    def __enter__(self) -> Self:
        for tool in _PACKAGES:
            _path_of(tool)
        try:
            self._inside.submit(os.unshare, os.CLONE_NEWNET).result()
        except OSError as error:
            self.__exit__()
            raise BadUseError(
                f"--link veth may not make a network namespace here ({error.strerror}): be root, put `zcb netns --` "
                "before the whole command, or take --link lo"
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.shutdown()  # the namespace stays for the processes started in it

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process inside; the options are those of `subprocess.Popen`."""
        return self._inside.submit(lambda: subprocess.Popen(command, **options)).result()

    def run(self, *command: str) -> None:
        """Run one of iproute2's or ethtool's commands inside, as `run` does outside."""
        self._inside.submit(run, *command).result()


class Veth(Namespace):
    """The store's namespace, connected to this one.

    Leaving it by an error removes the interfaces. The other errors are `Namespace`'s.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interface = interface_name()
        self.client, self.store = free_pair(self.interface)

    def __enter__(self) -> Self:
        remove(self.interface)  # of a store that was killed
        super().__enter__()
        try:
            self._connect()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        super().__exit__()
        if any(raised):
            remove(self.interface)

    def arguments(self) -> list[str]:
        """Return the store's arguments for serving here; only the two ends reach each other, there is no route on."""
        return [f"--bind={self.store}", f"--control-bind={self.store}", "--i-know", "--link-kept-by-network"]

    def cap(self, gbit_s: float | None) -> Link:
        """Limit what the store sends, headers included, and return the link as it is now; None is no limit."""
        if gbit_s is not None:
            limit_rate(self.run, STORE_END, gbit_s)
        return Link(name="veth", interface=self.interface, gbit_s=gbit_s, mtu=MTU, segmentation_offload=False)

    def _connect(self) -> None:
        here = f"/proc/{os.getpid()}/ns/net"
        ours, theirs = hardware_address(self.client), hardware_address(self.store)
        peer = ["peer", "name", self.interface, "netns", here, "address", ours, "mtu", str(MTU)]
        self.run("ip", "link", "add", "name", STORE_END, "address", theirs, "mtu", str(MTU), "type", "veth", *peer)
        _configure(self.run, STORE_END, self.store, self.client)
        _configure(run, self.interface, self.client, self.store)


def obstacle() -> str | None:
    """Return why the store cannot have such a link here, or None; found by trying, which leaves no trace."""
    try:
        with Namespace() as trial:
            trial.run("ip", "link", "add", "name", STORE_END, "type", "veth", "peer", "name", "client0")
            set_offloads(trial.run, STORE_END)
            limit_rate(trial.run, STORE_END, 1.0)
    except BadUseError as error:
        return str(error)
    return None


def interface_name() -> str:
    """Return the name of the client's interface: one of its own for every state directory."""
    return f"zcb-{_digest()[:8]}"  # at most 15 characters


def free_pair(interface: str) -> tuple[IPv4Address, IPv4Address]:
    """Return the client's and the store's address: a pair that depends on the state directory and is not in use.

    Addresses that only `interface` has do not count as used.

    Raises
    ------
    BadUseError
        All of 198.18.0.0/15 is in use.
    """
    used = {
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name != interface
    }
    first = int(_digest(), 16)
    for number in range(_PAIRS):
        client = _NETWORK[(first + number) % _PAIRS * 2]
        if str(client) not in used and str(client + 1) not in used:
            return client, client + 1
    raise BadUseError(f"--link veth finds no free address in {_NETWORK}")


def hardware_address(address: IPv4Address) -> str:
    """Return the Ethernet address of the end with `address`: a locally administered one that holds it."""
    return "02:00:" + ":".join(f"{byte:02x}" for byte in address.packed)


def set_offloads(run_there: Run, interface: str) -> None:
    """Let the sender cut its data into packets, and the receiver take them from a queue of its own.

    Without the first, up to 64 KiB pass, and count, as one packet. Without the second, packets wait in a queue that the
    whole machine shares and that overflows when readers keep the cores busy: 5 % were sent again. A queue of its own
    comes with the merging of received packets (gro), which happens after they were counted.
    """
    run_there("ethtool", "-K", interface, "tso", "off", "gso", "off", "gro", "on")


def limit_rate(run_there: Run, interface: str, gbit_s: float) -> None:
    """Limit what leaves by `interface`, Ethernet headers included."""
    bucket = ["rate", f"{round(gbit_s * 1e9)}bit", "burst", _BURST, "limit", _QUEUE]
    run_there("tc", "qdisc", "replace", "dev", interface, "root", "tbf", *bucket)


def remove(interface: str) -> None:
    """Remove an interface and its other end, where there is one.

    Raises
    ------
    BadUseError
        That is not permitted.
    """
    if not exists(interface):
        return
    try:
        run("ip", "link", "delete", "dev", interface)
    except BadUseError:
        if exists(interface):  # and has not gone with its namespace just now
            raise


def exists(interface: str) -> bool:
    """Whether there is such an interface in this namespace."""
    return any(name == interface for _, name in socket.if_nameindex())


def run(tool: str, *arguments: str) -> None:
    """Run one of the network's tools.

    Raises
    ------
    BadUseError
        It is missing or fails.
    """
    command = [_path_of(tool), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        reason = next((words for symptom, words in _MEANINGS.items() if symptom in said.lower()), said)
        raise BadUseError(f"--link veth: `{tool} {' '.join(arguments[:3])} ...` fails, {reason}; or take --link lo")


def _path_of(tool: str) -> str:
    path = shutil.which(tool) or shutil.which(tool, path=_SYSTEM_PATH)
    if path is None:
        raise BadUseError(f"--link veth needs `{tool}`: install the package {_PACKAGES[tool]}, or take --link lo")
    return path


def _configure(run_there: Run, interface: str, address: IPv4Address, other: IPv4Address) -> None:
    """Bring an end up so that nothing but TCP between the two is ever sent: no neighbour discovery of any kind."""
    set_offloads(run_there, interface)
    # Any queue will do, but without one a sender that is too fast for the receiver loses packets instead of waiting.
    run_there("tc", "qdisc", "replace", "dev", interface, "root", "pfifo")
    if Path("/proc/net/if_inet6").exists():
        run_there("ip", "link", "set", "dev", interface, "addrgenmode", "none")
    run_there("ip", "address", "add", f"{address}/31", "dev", interface)
    run_there("ip", "link", "set", "dev", interface, "up")
    known = ["lladdr", hardware_address(other), "dev", interface, "nud", "permanent"]
    run_there("ip", "neighbour", "replace", str(other), *known)


def _digest() -> str:
    return hashlib.sha256(os.fsencode(store_dir().resolve())).hexdigest()

"""A network of the store's own: a namespace behind a pair of virtual interfaces, whose rate the kernel keeps.

The counters of the client's end then count the answers alone, each packet once and with its headers, as a network card
does. Loopback cannot: it books every packet as sent and as received.

The namespace has no name. It lasts as long as a process in it (the store) or the thread that made it, so a crash leaves
nothing for long: with the store the namespace goes, and with that both interfaces. The client's end is removed here all
the same, since the kernel takes its time.
"""

import contextlib
import errno
import hashlib
import ipaddress
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
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
_BURST = 64 * 1024  # bytes that an idle link saves up: the least that the store's own pacing does
_QUEUE = 64 * 1024 * 1024  # bytes: more than all connections have under way, since a full queue drops packets
_PACKETS = 1000  # that wait where no rate is kept: the kernel's own choice
_OFFLOADS = {"tx-tcp*-segmentation": False, "tx-generic-segmentation": False, "rx-gro": True}
_NO_VETH = {errno.EOPNOTSUPP: "this kernel has no virtual interfaces (module veth)"}
_NO_BUCKET = {errno.ENOENT: "this kernel has no token bucket filter (module sch_tbf)"}


class Namespace:
    """A new network namespace, and the thread in it that starts everything inside.

    Raises
    ------
    BadUseError
        On entering: the kernel does not allow it.
    """

    def __init__(self) -> None:
        self._inside = ThreadPoolExecutor(1, thread_name_prefix="namespace")

    def __enter__(self) -> Self:
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

    def call[**P, T](self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function inside, and return what it returns."""
        return self._inside.submit(function, *args, **kwargs).result()

    def popen(self, command: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Start a process inside; the options are those of `subprocess.Popen`."""
        return self.call(lambda: subprocess.Popen(command, **options))


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
            self.call(limit_rate, STORE_END, gbit_s)
        return Link(name="veth", interface=self.interface, gbit_s=gbit_s, mtu=MTU, segmentation_offload=False)

    def _connect(self) -> None:
        with Path(f"/proc/{os.getpid()}/ns/net").open("rb") as here:
            self.call(add_pair, self.interface, self.client, self.store, here.fileno())
        self.call(_configure, STORE_END, self.store, self.client)
        _configure(self.interface, self.client, self.store)


def obstacle() -> str | None:
    """Return why the store cannot have such a link here, or None; found by trying, which leaves no trace."""
    client, store = _NETWORK[0], _NETWORK[1]
    try:
        with Namespace() as trial:
            trial.call(add_pair, "client0", client, store)
            trial.call(set_offloads, STORE_END)
            trial.call(limit_rate, STORE_END, 1.0)
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


def add_pair(interface: str, client: IPv4Address, store: IPv4Address, where: int | None = None) -> None:
    """Make both ends of the link: the store's in this namespace, the client's in that of the open file `where`."""
    from harness.machine import netlink  # slow to import

    ends = [{"address": hardware_address(address), "mtu": MTU} for address in (store, client)]
    if where is not None:
        ends[1]["net_ns_fd"] = where
    with _explained("add virtual interfaces", _NO_VETH):
        netlink.add_pair(STORE_END, interface, here=ends[0], there=ends[1])


def set_offloads(interface: str) -> None:
    """Let the sender cut its data into packets, and the receiver take them from a queue of its own.

    Without the first, up to 64 KiB pass, and count, as one packet. Without the second, packets wait in a queue that the
    whole machine shares and that overflows when readers keep the cores busy: 5 % were sent again. A queue of its own
    comes with the merging of received packets (gro), which happens after they were counted.
    """
    from harness.machine import netlink  # slow to import

    with _explained("switch offloads"):
        netlink.switch_features(interface, _OFFLOADS)


def limit_rate(interface: str, gbit_s: float) -> None:
    """Limit what leaves by `interface`, Ethernet headers included."""
    from harness.machine import netlink  # slow to import

    rate = max(1, round(gbit_s * 1e9 / 8))
    with _explained("limit the rate", _NO_BUCKET):
        netlink.limit_rate(interface, rate, burst=_BURST, waiting=_QUEUE)


def remove(interface: str) -> None:
    """Remove an interface and its other end, where there is one.

    Raises
    ------
    BadUseError
        That is not permitted.
    """
    if not exists(interface):
        return
    from harness.machine import netlink  # slow to import

    try:
        with _explained("remove the interface of a store that has ended"):
            netlink.remove(interface)
    except BadUseError:
        if exists(interface):  # and has not gone with its namespace just now
            raise


def exists(interface: str) -> bool:
    """Whether there is such an interface in this namespace."""
    return any(name == interface for _, name in socket.if_nameindex())


@contextlib.contextmanager
def _explained(action: str, meanings: Mapping[int, str] | None = None) -> Iterator[None]:
    """Turn the kernel's refusal into one line: which `action` failed, and what the error's code means there."""
    try:
        yield
    except OSError as error:
        known = {errno.EPERM: "not permitted"} | dict(meanings or {})
        reason = known.get(error.errno or 0) or error.strerror or str(error)
        raise BadUseError(f"--link veth cannot {action}: {reason}; or take --link lo") from error


def _configure(interface: str, address: IPv4Address, other: IPv4Address) -> None:
    """Bring an end up so that nothing but TCP between the two is ever sent: no neighbour discovery of any kind."""
    from harness.machine import netlink  # slow to import

    set_offloads(interface)
    with _explained(f"set up {interface}"):
        # Any queue will do, but without one a sender that is too fast for the receiver loses packets and does not wait.
        netlink.queue_plainly(interface, _PACKETS)
        if Path("/proc/net/if_inet6").exists():
            netlink.leave_without_ipv6(interface)
        netlink.add_address(interface, address, 31)
        netlink.bring_up(interface)
        netlink.set_neighbour(interface, other, hardware_address(other))


def _digest() -> str:
    return hashlib.sha256(os.fsencode(store_dir().resolve())).hexdigest()

"""The embedded store under load: every answer is right or a fault that was asked for, and both sides count the same.

``zcb store start --profile loopback``, then ``python -m studies.load --connections 10000 --seconds 1800``.
"""

import asyncio
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import click
import msgspec

from harness.store.control import FaultRule, StoreControl, StoreCounters
from harness.store.state import require_running

BUCKET = "load"
OBJECT_BYTES = 8 << 20
SIZES = (1, 1_000, 16_384, 65_536, 131_072, 1_048_576)
"""Bytes of a ranged GET: each about as often as it takes for a like share of the bytes, the smallest most often."""
FAULTS = ("slow-down", "internal-error", "reset")
FAULT_EVERY = 100
MEMORY_GROWTH_BYTES = 32 << 20
"""What the store may have grown by in the second half, when every connection has had its largest body."""
_MARK = "studies.load"
_WARM_UP_SHARE = 0.5
_PATIENCE_S = 120.0


class Sums(msgspec.Struct):
    """What all clients together saw."""

    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    statuses: Counter[int] = msgspec.field(default_factory=Counter)
    resets: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


class Client:
    """One connection, opened again after a reset."""

    def __init__(self, address: tuple[str, int], content: bytes, sums: Sums, seed: int) -> None:
        self.address, self.content, self.sums = address, content, sums
        self.random = random.Random(seed)  # noqa: S311
        self.number = seed
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, until: float) -> None:
        """Send one request after another until the time `until` of the monotonic clock."""
        while time.monotonic() < until and not self.sums.wrong:
            try:
                await asyncio.wait_for(self.exchange(), _PATIENCE_S)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.sums.resets += 1
                self.close()
            except TimeoutError:
                self.sums.wrong.append(f"no answer within {_PATIENCE_S:.0f} s")
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self.streams:
            self.streams[1].close()
        self.streams = None

    async def exchange(self) -> None:
        """Send one request and check its answer."""
        draw = self.random.random()
        if draw < 0.90:
            await self.get()
        elif draw < 0.94:
            await self.ask("head", "HEAD", f"/{BUCKET}/object")
        elif draw < 0.97:
            await self.ask(
                "put", "PUT", f"/{BUCKET}/small/{self.number}", body=self.content[: self.random.choice(SIZES[:4])]
            )
        elif draw < 0.99:
            await self.ask("delete", "DELETE", f"/{BUCKET}/small/{self.number}")
        else:
            await self.ask("list", "GET", f"/{BUCKET}?list-type=2&max-keys=10")

    async def get(self) -> None:
        """Read a range and compare it with the content."""
        size = self.random.choices(SIZES, [1 / (size + 20_000) for size in SIZES])[0]
        start = self.random.randrange(1, OBJECT_BYTES - size)
        headers = f"range: bytes={start}-{start + size - 1}\r\n"
        status, body = await self.ask("get_data", "GET", f"/{BUCKET}/object", headers)
        if status == 206 and body != self.content[start : start + size]:
            self.sums.wrong.append(f"bytes {start} to {start + size} are wrong")

    async def ask(self, kind: str, method: str, path: str, headers: str = "", body: bytes = b"") -> tuple[int, bytes]:
        """Return status and body; what comes of it is counted."""
        self.streams = self.streams or await asyncio.open_connection(*self.address, limit=1 << 21)
        reader, writer = self.streams
        self.sums.kinds[kind] += 1
        self.sums.sent_bytes += len(body)
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0) if method != "HEAD" else 0
        answer = await reader.readexactly(length)
        self.sums.statuses[status] += 1
        self.sums.received_bytes += length
        if status not in (200, 204, 206) and b"(injected)" not in answer:
            self.sums.wrong.append(f"{method} {path}: {status} {answer[:200]!r}")
        return status, answer


def differences(sums: Sums, store: StoreCounters) -> list[str]:
    """Return in words where the clients' sums are not the store's counters; none if all is well."""
    injected = Counter(store.faults_by_name)
    errors = {status: count for status, count in sums.statuses.items() if status >= 400}
    pairs = {
        **{kind: (count, getattr(store, kind)) for kind, count in sums.kinds.items()},
        "requests": (sum(sums.kinds.values()), store.requests),
        "answers with an error": (errors, {int(status): n for status, n in store.errors_by_status.items()}),
        "503": (sums.statuses[503], injected["slow-down"]),
        "500": (sums.statuses[500], injected["internal-error"]),
        "resets": (sums.resets, injected["reset"]),
        "bytes received": (sums.received_bytes, store.bytes_out),
        "bytes sent": (sums.sent_bytes, store.bytes_in),
        "requests in flight": (0, store.in_flight),
    }
    return [
        f"{name}: {ours} by the clients, {theirs} by the store"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]


async def memory(control: StoreControl, until: float) -> list[int]:
    """Return the store's resident memory, read every two seconds, bytes."""
    seen = []
    while time.monotonic() < until:
        seen.append(control.counters().rss_bytes)
        await asyncio.sleep(2)
    return seen


@asynccontextmanager
async def prepared(address: tuple[str, int], content: bytes) -> AsyncIterator[None]:
    """Provide the bucket with its object, and remove both."""
    owner = Client(address, content, Sums(), 0)
    await owner.ask("other", "PUT", f"/{BUCKET}")
    await owner.ask("put", "PUT", f"/{BUCKET}/object", body=content)
    if owner.sums.wrong:
        raise click.ClickException(owner.sums.wrong[0])
    yield
    while True:
        listing = (await owner.ask("list", "GET", f"/{BUCKET}?list-type=2"))[1].decode()
        keys = [part.partition("</Key>")[0] for part in listing.split("<Key>")[1:]]
        for key in keys:
            await owner.ask("delete", "DELETE", f"/{BUCKET}/{key}")
        if not keys:
            break
    await owner.ask("other", "DELETE", f"/{BUCKET}")
    owner.close()


async def load(connections: int, seconds: float) -> bool:
    """Print what came of it; whether all is well."""
    running = require_running()
    url = urlsplit(running.endpoint)
    address = (url.hostname or "", url.port or 80)
    content = random.Random(0).randbytes(OBJECT_BYTES)  # noqa: S311
    with StoreControl(running.control) as control:
        async with prepared(address, content):
            for number, fault in enumerate(FAULTS):
                every = FAULT_EVERY * len(FAULTS)
                control.add_fault(FaultRule(fault=fault, first=1 + number * FAULT_EVERY, every=every, count=0))
            control.mark(_MARK)
            sums, until = Sums(), time.monotonic() + seconds
            clients = [Client(address, content, sums, number) for number in range(1, connections + 1)]
            watch = asyncio.create_task(memory(control, until))
            await asyncio.gather(*(client.run(until) for client in clients))
            seen = await watch
            await asyncio.sleep(1)
            store = control.since(_MARK)
            control.clear_faults()
    second_half = seen[int(len(seen) * _WARM_UP_SHARE) :]
    warm = second_half[0]
    growth = max(second_half) - warm
    problems = [*sums.wrong[:5], *differences(sums, store)]
    if growth > MEMORY_GROWTH_BYTES:
        problems.append(f"memory grew by {growth / 1e6:.1f} MB after the warm-up")
    print(  # noqa: T201
        f"{connections} connections, {seconds:.0f} s: {store.requests} requests, {store.bytes_out / 1e9:.1f} GB, "
        f"{store.faults} faults, {store.max_in_flight} in flight at most; "
        f"resident {warm / 1e6:.1f} MB warm, {seen[-1] / 1e6:.1f} MB at the end"
    )
    print("\n".join(problems) or "no error that was not injected; the clients' sums are the store's counters")  # noqa: T201
    return not problems


@click.command()
@click.option("--connections", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--seconds", type=click.FloatRange(1), default=120.0, show_default=True)
def main(connections: int, seconds: float) -> None:
    """Load the running embedded store; exit code 1 if anything was wrong."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if connections + 100 > most:
        raise click.BadParameter(f"more than the {most} descriptors that this process may have: raise `ulimit -Hn`")
    sys.exit(not asyncio.run(load(connections, seconds)))


if __name__ == "__main__":
    main()

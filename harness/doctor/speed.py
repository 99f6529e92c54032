"""How fast a target answers from here: a few GETs of what is stored there, beside the embedded store's numbers.

The embedded store imitates S3 as measured by others. Whether that is like a given place can only be seen there.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Iterable, Sequence

import msgspec
import obstore

from harness.errors import BadUseError
from harness.store.state import Profile
from harness.targets.client import open_store, reaching
from harness.targets.lock import measurement_lock
from harness.targets.obstore import Store
from harness.targets.target import Target

S3 = Profile(name="s3", first_byte_ms=20.0, connection_mb_s=90.0, link_gbit_s=2.0)
"""The embedded store's usual profile; a test holds it to what the store says of itself."""

CONNECTIONS = 32
_SMALL_GETS = 9
_LARGE_GETS = 3
_LONGEST = 8 << 20
"""Bytes of a GET, as long as readers and the network limit ask for."""
_SHORTEST = 64 << 10
"""Below that the time of a body is lost in that of its first byte."""
_SHARE_S = 0.1
"""What each connection's part of the last step takes at the rate of one alone; on a narrow link all take longer."""
_LISTED = 1000


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of a target."""

    first_byte_ms: float
    """Median of GETs of a byte on an open connection."""
    connection_mb_s: float
    """Of one connection alone, in 10**6 bytes, once the first byte is there."""
    link_gbit_s: float
    """Of `CONNECTIONS` connections together, bodies only."""
    objects: int
    """Of how many different objects."""
    fetched_bytes: int
    """By all the GETs."""

    @property
    def start_command(self) -> str:
        """The command that starts an embedded store like that."""
        options = {
            "--first-byte-ms": self.first_byte_ms,
            "--connection-mb-s": self.connection_mb_s,
            "--link-gbit-s": self.link_gbit_s,
        }
        return " ".join(["zcb store start", *(f"{name} {rounded(value):g}" for name, value in options.items())])


def rounded(value: float) -> float:
    """Return a figure with the three digits that such a measurement has."""
    return float(f"{value:.3g}")


def measure(target: Target) -> Speed:
    """Measure how fast `target` answers, with objects that are there.

    Raises
    ------
    BadUseError
        The target cannot be listed, or holds no object that is large enough.
    StoreError
        The target cannot be reached or refuses.
    """
    if target.is_http:
        raise BadUseError("a place that is read by plain HTTP cannot list, so no object is known to be there")
    with measurement_lock(target), reaching(target):
        store = open_store(target, retry=False)
        sizes = _largest(store)
        if not sizes:
            raise BadUseError(f"it holds no object of {_SHORTEST >> 10} KiB: write some with `zcb data create`")
        return asyncio.run(_measured(store, sizes))


def _largest(store: Store) -> dict[str, int]:
    """Return the largest of the first objects there, at most `CONNECTIONS`: key -> bytes."""
    first: Iterable[Sequence[obstore.ObjectMeta]] = itertools.islice(obstore.list(store, chunk_size=_LISTED), 1)
    found = {meta["path"]: meta["size"] for meta in itertools.chain.from_iterable(first) if meta["size"] >= _SHORTEST}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:CONNECTIONS])


async def _measured(store: Store, sizes: dict[str, int]) -> Speed:
    keys = list(sizes)
    most = min(_LONGEST, sizes[keys[0]])
    await _seconds(store, [(keys[0], 1)])  # opens the connection
    first_byte = statistics.median([await _seconds(store, [(keys[0], 1)]) for _ in range(_SMALL_GETS)])
    alone = statistics.median([await _seconds(store, [(keys[0], most)]) for _ in range(_LARGE_GETS)])
    rate = _rate(most, alone, first_byte)
    share = int(min(_LONGEST, max(_SHORTEST, rate * _SHARE_S)))
    work = [(key, min(share, sizes[key])) for key in itertools.islice(itertools.cycle(keys), CONNECTIONS)]
    await _seconds(store, [(key, 1) for key, _ in work])  # opens the others
    nbytes = sum(size for _, size in work)
    together = _rate(nbytes, await _seconds(store, work), first_byte)
    return Speed(
        first_byte_ms=first_byte * 1e3,
        connection_mb_s=rate / 1e6,
        link_gbit_s=together * 8 / 1e9,
        objects=len(keys),
        fetched_bytes=_LARGE_GETS * most + nbytes,
    )


async def _seconds(store: Store, work: Sequence[tuple[str, int]]) -> float:
    """Fetch the first bytes of objects, all at once; return how long that took."""
    begin = time.perf_counter()
    await asyncio.gather(*(obstore.get_range_async(store, key, start=0, length=size) for key, size in work))
    return time.perf_counter() - begin


def _rate(nbytes: int, seconds: float, first_byte: float) -> float:
    """Return bytes per second of bodies after their first byte, or of all the time where that was shorter."""
    return nbytes / (seconds - first_byte if seconds > first_byte else seconds)

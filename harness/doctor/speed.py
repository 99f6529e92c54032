"""How fast a target answers from here: a few GETs of what is stored there, beside the embedded store's numbers.

The embedded store imitates S3 as measured by others. Whether that is like a given place can only be seen there.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
import obstore
from obstore.exceptions import BaseError

from harness.datasets.array import METADATA_NAMES
from harness.errors import BadUseError
from harness.store.state import Profile
from harness.targets.client import is_an_answer, lacks_bucket, open_store, reaching
from harness.targets.lock import measurement_lock
from harness.targets.obstore import Store
from harness.targets.target import EMBEDDED, Target

S3 = Profile(name="s3", first_byte_ms=20.0, connection_mb_s=90.0, link_gbit_s=2.0)
"""The embedded store's usual profile; a test holds it to what the store says of itself."""

CONNECTIONS = 32
"""At once, at first: twice as many and so on, up to `MOST_CONNECTIONS`, as long as that fetches faster."""
MOST_CONNECTIONS = 256
_GAIN = 1.5
"""Twice the connections that fetch less than so many times faster have met the link, or this machine's own limit."""
_NARROW = 0.5
"""The link was met where the first connections fetch less than that part of what each would fetch alone."""
_SMALL_GETS = 9
_LARGE_GETS = 3
_LONGEST = 8 << 20
"""Bytes of a GET, as long as readers and the network limit ask for."""
_MOST_AT_ONCE = 1 << 30
"""Bytes that all connections together fetch at once, since they are held in memory."""
MOST_GB = 3
"""All that is fetched, in 10**9 bytes, rounded: `_LARGE_GETS` of the longest, and 1/4, 1/2, 1 and 1 GiB."""
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
    """Of `connections` together, bodies only."""
    connections: int = CONNECTIONS
    """That were open at once."""
    link_reached: bool = True
    """False where the most connections that were tried still fetched faster than half as many: the link is faster."""
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
            "--link-gbit-s": self.link_gbit_s if self.link_reached else 0.0,  # 0 is no limit
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
        The target answers, but cannot be listed, or holds no object that is large enough.
    StoreError
        The target cannot be reached or refuses.
    """
    with measurement_lock(target), reaching(target):
        store = open_store(target, retry=False)
        if target.is_http:
            refusal = _refusal(store)
            if refusal is not None and not is_an_answer(refusal):
                raise refusal
            raise BadUseError("a place that is read by plain HTTP cannot list, so no object is known to be there")
        sizes = _largest(store, target)
        if not sizes:
            raise BadUseError(f"it holds no object of {_SHORTEST >> 10} KiB: write some with `zcb data create`")
        return asyncio.run(_measured(store, sizes))


def _refusal(store: Store) -> Exception | None:
    """Return why no array of either format can be read at the address itself; None where one can."""
    refusal: Exception | None = None
    for name in METADATA_NAMES.values():
        try:
            obstore.get(store, name)
        except (BaseError, FileNotFoundError) as error:
            refusal = error
            if not is_an_answer(error):
                break
        else:
            return None
    return refusal


def _largest(store: Store, target: Target) -> dict[str, int]:
    """Return the largest of the first objects there, at most `CONNECTIONS`: key -> bytes."""
    try:
        first: Iterable[Sequence[obstore.ObjectMeta]] = list(
            itertools.islice(obstore.list(store, chunk_size=_LISTED), 1)
        )
    except BaseError as error:
        if target.name == EMBEDDED and lacks_bucket(error):  # `zcb data create` makes it there
            return {}
        if _refusal(store) is not None:  # public data may be read by their address where nobody may list
            raise
        raise BadUseError("an array can be read there, but nothing can be listed") from error
    found = {meta["path"]: meta["size"] for meta in itertools.chain.from_iterable(first) if meta["size"] >= _SHORTEST}
    return dict(sorted(found.items(), key=lambda item: -item[1])[:CONNECTIONS])


async def _measured(store: Store, sizes: dict[str, int]) -> Speed:
    keys = list(sizes)
    most = min(_LONGEST, sizes[keys[0]])
    await _seconds(store, [(keys[0], 1)])  # opens the connection
    first_byte = statistics.median([await _seconds(store, [(keys[0], 1)]) for _ in range(_SMALL_GETS)])
    alone = statistics.median([await _seconds(store, [(keys[0], most)]) for _ in range(_LARGE_GETS)])
    rate = _rate(most, alone, first_byte)
    fetched = _LARGE_GETS * most

    async def together(count: int) -> float:
        nonlocal fetched
        share = int(min(_LONGEST, _MOST_AT_ONCE // count, max(_SHORTEST, rate * _SHARE_S)))
        work = [(key, min(share, sizes[key])) for key in itertools.islice(itertools.cycle(keys), count)]
        await _seconds(store, [(key, 1) for key, _ in work])  # opens the others
        nbytes = sum(size for _, size in work)
        fetched += nbytes
        return _rate(nbytes, await _seconds(store, work), first_byte)

    link = await reach_link(together, rate)
    return Speed(
        first_byte_ms=first_byte * 1e3,
        connection_mb_s=rate / 1e6,
        link_gbit_s=link.rate * 8 / 1e9,
        connections=link.connections,
        link_reached=link.reached,
        objects=len(keys),
        fetched_bytes=fetched,
    )


class Link(NamedTuple):
    """The fastest that connections fetched together."""

    rate: float
    connections: int
    reached: bool
    """Whether more of them would fetch no faster."""


async def reach_link(together: Callable[[int], Awaitable[float]], alone: float) -> Link:
    """Open twice as many connections again and again, until that fetches little faster or there are enough.

    Parameters
    ----------
    together
        Fetches with so many connections at once; returns their rate.
    alone
        The rate of one.
    """
    count, rate = CONNECTIONS, await together(CONNECTIONS)
    if rate < _NARROW * count * alone:
        return Link(rate, count, reached=True)
    while count < MOST_CONNECTIONS:
        more = await together(2 * count)
        if more < _GAIN * rate:
            return Link(more, 2 * count, reached=True) if more > rate else Link(rate, count, reached=True)
        count, rate = 2 * count, more
    return Link(rate, count, reached=False)


async def _seconds(store: Store, work: Sequence[tuple[str, int]]) -> float:
    """Fetch the first bytes of objects, all at once; return how long that took."""
    begin = time.perf_counter()
    await asyncio.gather(*(obstore.get_range_async(store, key, start=0, length=size) for key, size in work))
    return time.perf_counter() - begin


def _rate(nbytes: int, seconds: float, first_byte: float) -> float:
    """Return bytes per second of bodies after their first byte, or of all the time where that was shorter."""
    return nbytes / (seconds - first_byte if seconds > first_byte else seconds)

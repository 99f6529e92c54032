"""Stores that note their requests: a wrapper around any store, put between zarr and it while a read is recorded."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, Self, cast, override

from zarr.abc.store import Store, SuffixByteRequest
from zarr.storage import WrapperStore

from harness.timeline.zarr_python.buffers import RecordedBuffer
from harness.timeline.zarr_python.events import CURRENT, Get, Layout, now

if TYPE_CHECKING:
    from obstore import GetOptions


class Log(Protocol):
    """Who is told of requests."""

    stamp_bodies: bool

    def started(self, key: str, byte_range: Any, layout: Layout | None) -> Get:
        """Note that a request begins."""

    def note(self, line: str) -> None:
        """Keep a remark for whoever looks at the timeline."""


class WatchedStore(WrapperStore):  # type: ignore[type-arg] # generic since 3.1 only
    """Forwards everything to a store and notes each read of it.

    zarr 3.3 reads the chunks of a shard by `get_ranges`, which a wrapper forwards past its own `get`; where the store
    keeps the method that zarr gives every store, it is run over this `get` instead, so that each request is seen.
    """

    def __init__(self, store: Any, log: Log, layout: Layout | None) -> None:
        super().__init__(store)
        self.inner = store
        self._log = log
        self._layout = layout

    @override
    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.inner.with_read_only(read_only), self._log, self._layout)

    @override
    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        get = self._log.started(key, byte_range, self._layout)
        token = CURRENT.set(get)
        try:
            buffer = await self._fetch(get, prototype)
        finally:
            CURRENT.reset(token)
        return _arrived(get, buffer)

    async def _fetch(self, get: Get, prototype: Any) -> Any:
        return await self.inner.get(get.key, prototype, get.asked)

    async def get_ranges(  # type: ignore[override,unused-ignore] # came with 3.3
        self, key: str, byte_ranges: Sequence[Any], *, prototype: Any, **limits: Any
    ) -> AsyncIterator[Sequence[tuple[int, Any]]]:
        """Note each request, whoever merges the ranges; see the class."""
        if type(self.inner).get_ranges is Store.get_ranges:
            async for group in Store.get_ranges(self, key, byte_ranges, prototype=prototype, **limits):
                yield group
            return
        self._log.note("the store merges byte ranges by itself: when it sent each request is unknown")
        async for group in self.inner.get_ranges(key, byte_ranges, prototype=prototype, **limits):
            self._merged(key, [(byte_ranges[i], buffer) for i, buffer in group])
            yield group

    def _merged(self, key: str, parts: Sequence[tuple[Any, Any]]) -> None:
        """Note a request that the store merged out of several byte ranges."""
        get = self._log.started(key, None, self._layout)
        get.last_byte_ns, get.sent_ns = now(), None
        if all(hasattr(asked, "end") for asked, _ in parts):
            get.begin, get.end = min(asked.start for asked, _ in parts), max(asked.end for asked, _ in parts)
            get.nbytes = get.end - get.begin
        for asked, buffer in parts:
            if isinstance(buffer, RecordedBuffer):
                buffer.get, buffer.offset = get, getattr(asked, "start", 0)


class WatchedSyncStore(WatchedStore):
    """For stores in memory or on disk, which the fused pipeline reads without an event loop."""

    @override
    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        get = self._log.started(key, byte_range, self._layout)
        return _arrived(get, self.inner.get_sync(key, prototype=prototype, byte_range=byte_range))

    @override
    def get_ranges_sync(self, key: str, byte_ranges: Sequence[Any], *, prototype: Any, **limits: Any) -> Any:
        return Store.get_ranges_sync(self, key, byte_ranges, prototype=prototype, **limits)


class WatchedObstore(WatchedStore):
    """For zarr's ObjectStore: the same request in two steps, which tells when the response's headers were in."""

    @override
    async def _fetch(self, get: Get, prototype: Any) -> Any:
        import obstore
        from obstore.exceptions import NotSupportedError

        try:
            response = await obstore.get_async(
                self.inner.store, get.key, options=cast("GetOptions | None", _options(get))
            )
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except NotSupportedError:  # Azure refuses suffixes before anything is sent; zarr asks for the size first
            self._log.note("the store refuses suffix ranges: an index cost a HEAD that is not shown")
            return await super()._fetch(get, prototype)
        get.headers_ns = now()
        get.begin, get.end = response.range
        body = await _stamped(get, response) if self._log.stamp_bodies else await response.bytes_async()
        return prototype.buffer.from_bytes(body)


async def _stamped(get: Get, response: Any) -> bytes:
    """Return the body, noting when each part of it arrived."""
    parts, end = [], get.begin or 0
    async for part in response.stream(min_chunk_size=1):
        end += len(part)
        get.stamps.append((end, now()))
        parts.append(part)
    return b"".join(parts)


def _options(get: Get) -> dict[str, Any] | None:
    if get.asked is None:
        return None
    if isinstance(get.asked, SuffixByteRequest):
        return {"range": {"suffix": get.asked.suffix}}
    return {"range": {"offset": get.begin} if get.end is None else (get.begin, get.end)}


def _arrived(get: Get, buffer: Any) -> Any:
    """Note that a request is complete and let its bytes carry where they came from."""
    get.last_byte_ns = now()
    if buffer is None:
        return None
    get.nbytes = len(buffer)
    if get.begin is None and get.exchanges and get.exchanges[-1].range is not None:
        get.begin = get.exchanges[-1].range[0]
    if get.begin is not None:
        get.end = get.begin + get.nbytes
    _keep_index(get, buffer)
    if isinstance(buffer, RecordedBuffer):
        buffer.get, buffer.offset = get, get.begin or 0
    return buffer


def _keep_index(get: Get, buffer: Any) -> None:
    """Keep a shard's index, alone or at its place in a whole shard: it says which chunk stands at which byte."""
    layout = get.layout
    if get.is_index:
        get.index = buffer.to_bytes()
    elif layout is not None and get.asked is None:
        size = layout.index_nbytes
        get.index = (buffer[-size:] if layout.index_at_end else buffer[:size]).to_bytes()


def watched(store: Any, log: Log, layout: Layout | None) -> WatchedStore:
    """Return `store` wrapped so that `log` is told of its reads."""
    plain = store.inner if isinstance(store, WatchedStore) else store
    return _watcher(plain)(plain, log, layout)


def _watcher(store: Any) -> type[WatchedStore]:
    if _plain_obstore(store):
        return WatchedObstore
    return WatchedSyncStore if hasattr(store, "get_sync") else WatchedStore


def _plain_obstore(store: Any) -> bool:
    """Whether a store is zarr's ObjectStore with its own `get`: one overridden by a subclass has to be called."""
    try:
        from zarr.storage import ObjectStore
    except ImportError:  # came with 3.0.7
        return False
    return isinstance(store, ObjectStore) and type(store).get is ObjectStore.get

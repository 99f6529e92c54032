"""zarr-python over its two stores for object storage: obstore and fsspec (s3fs, and its own HTTP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, override

from harness.errors import UnsupportedError
from harness.machine.cpu import cores
from harness.readers.base import ZARR_PYTHON, Reader, Turns, refusals
from harness.readers.settings import (
    CORES,
    IN_FLIGHT,
    MERGE_BYTES,
    MERGE_GAP,
    OBSTORE_CLIENT,
    OBSTORE_POOL,
    TOKIO_THREADS,
    Setting,
)
from harness.results.sample import RequestCounts
from harness.targets.fsspec import GCSFS, UNREAD

if TYPE_CHECKING:
    import aiohttp
    import numpy.typing as npt

    from harness.targets.target import Target
    from harness.timeline.model import Timeline
    from harness.timeline.zarr_python import Recorder
    from harness.workload.model import Workload

ZARR_CONFIG = "zarr.config"
"""Where settings of zarr-python, and of pipelines for it, are given."""

BOUND = "async.concurrency"
"""The setting that bounds requests in flight; a zarr without it leaves that to the store."""

_S3FS = "s3fs.S3FileSystem"
_BOTOCORE = "botocore's Config"
_FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"

ZARR_SETTINGS = (
    Setting(
        name="codec_pipeline.path",
        of=ZARR_CONFIG,
        default="BatchedCodecPipeline",
        values=(_FUSED,),
        meaning="The codec pipeline; the fused one fetches and decodes shard by shard.",
    ),
    Setting(
        name="array.sharding_coalesce_max_gap_bytes",
        of=ZARR_CONFIG,
        default="1 MiB",
        values=(-1, 1 << 16, 1 << 18, 8 << 20),
        meaning="Bytes between two chunks up to which they share a request; -1 lets none share one.",
        part=MERGE_GAP,
    ),
    Setting(
        name="array.sharding_coalesce_max_bytes",
        of=ZARR_CONFIG,
        default="16 MiB",
        values=(1 << 20, 4 << 20, 64 << 20),
        meaning="The largest request that chunks share.",
        part=MERGE_BYTES,
    ),
    Setting(
        name=BOUND,
        of=ZARR_CONFIG,
        default=IN_FLIGHT,
        values=(10, 32),
        meaning="Shards under way at once, each with at most 10 requests.",
    ),
    Setting(
        name="threading.max_workers",
        of=ZARR_CONFIG,
        default=CORES,
        values=(1, 16, IN_FLIGHT),
        meaning="Threads that decode.",
    ),
    Setting(
        name="codec_pipeline.max_workers",
        of=ZARR_CONFIG,
        default="os.cpu_count()",
        values=(1, 16),
        meaning="Threads of the fused pipeline.",
    ),
)

_BESIDE_GET = ("get_ranges", "get_ranges_sync", "get_sync")
"""By these a store may fetch without its `get`, if its class has one of its own: zarr's go through `get`."""

_SUFFIX = "bytes=-"
_PARTIAL, _FAILURE, _TOO_MANY = 206, 500, 429


class ZarrPython(Reader):
    """zarr-python as a user writes it: open the array, index it."""

    decoder = ZARR_PYTHON
    counts_requests = True
    records_timelines = True
    holds_back = (
        "zarr-python fetches at most 10 merged ranges of a shard at once, and requests share one event loop with the "
        "steps of every chunk"
    )
    reads_one = True
    pipeline: ClassVar[str | None] = None
    """Class of the codec pipeline to use; None is zarr-python's default."""
    path: ClassVar[str] = ""
    """Of the array in its store."""

    def __init__(self) -> None:
        self._array: Any = None
        self._selections: list[tuple[slice, ...]] = []
        self._workload: Workload | None = None
        self._recorder: Recorder | None = None
        self._recorded_array: Any = None
        self._turns = Turns(1)
        self._keeps_indexes = False

    @override
    def keep_indexes(self) -> None:
        self._keeps_indexes = True

    def _store(self, workload: Workload) -> Any:
        raise NotImplementedError

    def _recorded_store(self, workload: Workload) -> Any:
        """Return a store that counts nothing: the recorder does."""
        raise NotImplementedError

    @override
    def open(self, workload: Workload) -> None:
        import zarr

        # It is the one public knob; since 3.3.0 it bounds shards, each with 10 merged fetches.
        documented = {BOUND: workload.in_flight, "threading.max_workers": cores()}
        chosen = self.chosen_of(ZARR_CONFIG)
        pipeline = str(chosen["codec_pipeline.path"]) if "codec_pipeline.path" in chosen else self.pipeline
        _demand_known(pipeline)
        zarr.config.set(documented | chosen | ({"codec_pipeline.path": pipeline} if pipeline else {}))
        self._workload = workload
        store = self._store(workload)
        self._array = self._opened_array(_keeping(store) if self._keeps_indexes else store, pipeline)
        self.select(workload)
        self._turns = Turns(workload.concurrent_reads)

    def _opened_array(self, store: Any, pipeline: str | None) -> Any:
        """Return what `_selected` selects from.

        Parameters
        ----------
        pipeline
            The codec pipeline that has to decode; an UnsupportedError says that it is another. None takes any.
        """
        if self._workload is None:
            raise RuntimeError("an array is opened for a workload")
        array = opened(store, self._workload, path=self.path)
        demand_pipeline(array, pipeline)
        return array

    def _selected(self, selection: tuple[slice, ...]) -> npt.NDArray[Any]:
        """Read one selection."""
        array: npt.NDArray[Any] = self._array[selection]
        return array

    @override
    def select(self, workload: Workload) -> None:
        self._selections = [tuple(slice(*axis) for axis in read) for read in workload.reads]

    @override
    def read(self) -> Sequence[npt.NDArray[Any]]:
        return self._turns.each(self._selected, self._selections)

    @override
    def read_one(self, number: int) -> npt.NDArray[Any]:
        return self._selected(self._selections[number])

    @override
    def timeline(self) -> tuple[Timeline, Sequence[npt.NDArray[Any]]]:
        recorder, plain = self._opened_recorder(), self._array
        self._array = self._recorded_array
        try:
            with recorder:
                recorder.begin()
                result = self.read()
                recorder.end()
        finally:
            self._array = plain
        return recorder.timeline(reader=self.name), result

    def _opened_recorder(self) -> Recorder:
        """Return the recorder under which a second array was opened: the one that is timed stays free of it."""
        from harness.timeline.zarr_python import Recorder

        if self._recorder is None:
            if self._workload is None:
                raise RuntimeError("timeline before open")
            recorder = Recorder()
            with recorder:
                self._recorded_array = self._opened_array(self._recorded_store(self._workload), None)
            self._recorder = recorder
        return self._recorder

    @override
    def close(self) -> None:
        self._turns.close()


class ZarrPythonObstore(ZarrPython):
    """zarr-python's ObjectStore over obstore (Rust's object_store)."""

    name = "zarr-python+obstore"
    packages: ClassVar[tuple[str, ...]] = ("zarr", "obstore", "numcodecs", "numpy")
    rank = 20
    represents: ClassVar[int | None] = 1
    client = "obstore"
    settings: ClassVar[tuple[Setting, ...]] = (*ZARR_SETTINGS, OBSTORE_POOL, TOKIO_THREADS)

    def __init__(self) -> None:
        super().__init__()
        self._request_counts = RequestCounts()
        self._sees_all_requests = True

    @override
    def request_counts(self) -> RequestCounts | None:
        return self._request_counts if self._sees_all_requests else None

    @override
    def reset_request_counts(self) -> None:
        self._request_counts = RequestCounts()

    def _store(self, workload: Workload) -> Any:
        reader = self
        suffixes = workload.target.knows_suffixes
        kind = self._store_class(workload)
        self._sees_all_requests = not _goes_past_get(kind)

        class CountingStore(kind):  # type: ignore[misc,valid-type] # a class that zarr may lack
            """Counts at the one method every read goes through: each call is one HTTP GET, as long as none is repeated.

            Where the cloud knows no suffix ranges, it asks for the object's size first. A zarr whose store goes past
            `get` is not counted here, and the embedded store's counts stand for it.
            """

            async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
                buffer = await super().get(key, prototype, byte_range)
                request_counts = reader._request_counts
                asks_size = hasattr(byte_range, "suffix") and not suffixes
                request_counts.requests += 1 + asks_size
                request_counts.head_requests += asks_size
                request_counts.index_requests += hasattr(byte_range, "suffix")
                request_counts.fetched_bytes += 0 if buffer is None else len(buffer)
                return buffer

        return CountingStore(self._opened(workload), read_only=True)

    @override
    def _recorded_store(self, workload: Workload) -> Any:
        return self._store_class(workload)(self._opened(workload), read_only=True)

    def _store_class(self, workload: Workload) -> Any:
        """Return the class of zarr's store over obstore."""
        try:
            from zarr.storage import ObjectStore
        except ImportError as error:
            raise UnsupportedError("this zarr has no ObjectStore; it came with 3.0.7") from error
        return ObjectStore

    def _opened(self, workload: Workload) -> Any:
        from harness.targets.client import open_store

        return open_store(workload.target, prefix=workload.array.key, client=self.chosen_of(OBSTORE_CLIENT))


def _goes_past_get(kind: type) -> bool:
    """Whether a class of stores has a method of its own that may fetch without its `get`."""
    from zarr.abc.store import Store

    return any(getattr(kind, name, None) is not getattr(Store, name, None) for name in _BESIDE_GET)


class ZarrPythonObstoreFused(ZarrPythonObstore):
    """The same with the codec pipeline that fetches and decodes shard by shard, opt-in since 3.3.0."""

    name = "zarr-python+obstore+fused"
    rank = 30
    represents = None
    settings = ()
    pipeline = _FUSED


class ZarrPythonFsspec(ZarrPython):
    """zarr-python's FsspecStore over s3fs (aiobotocore, aiohttp), or over fsspec's plain HTTP (aiohttp)."""

    name = "zarr-python+fsspec"
    packages = ("zarr", "s3fs", "fsspec", "aiobotocore", "aiohttp", "numcodecs", "numpy")
    rank = 10
    represents = 2
    client = "fsspec"
    unread = UNREAD
    settings = (
        *ZARR_SETTINGS,
        Setting(
            name="max_pool_connections",
            of=_BOTOCORE,
            default=IN_FLIGHT,
            values=(10, 32),
            meaning="Connections that may be open.",
        ),
        Setting(
            name="default_block_size",
            of=_S3FS,
            default="50 MiB",
            values=(4 << 20, 8 << 20, 16 << 20),
            meaning="Bytes of a part, where a whole object is read in several.",
        ),
        Setting(
            name="max_concurrency",
            of=_S3FS,
            default="10",
            values=(1, IN_FLIGHT),
            meaning="Parts of an object that are fetched at once; with 1 it is not cut, and its size is not asked for.",
        ),
    )

    def __init__(self) -> None:
        super().__init__()
        self._filesystems: list[Any] = []
        self._http = _HttpCounts()

    @classmethod
    @override
    def counts_alone(cls, target: Target) -> bool:
        return True

    @classmethod
    @override
    def versions(cls) -> dict[str, str]:
        from importlib.metadata import version

        return super().versions() | ({} if "gs" in UNREAD else {GCSFS: version(GCSFS)})

    @override
    def request_counts(self) -> RequestCounts:
        return self._http.request_counts()

    @override
    def reset_request_counts(self) -> None:
        self._http.reset()

    def _store(self, workload: Workload) -> Any:
        return self._opened_store(workload, self._http.trace())

    @override
    def _recorded_store(self, workload: Workload) -> Any:
        from harness.timeline.zarr_python.http import http_trace

        return self._opened_store(workload, http_trace())

    def _opened_store(self, workload: Workload, trace: Any) -> Any:
        """Return a store whose HTTP requests `trace` is told of.

        Of a URL fsspec would take apart what may stand in a key, as `::`.
        """
        import fsspec
        from zarr.storage import FsspecStore

        from harness.targets.fsspec import fsspec_location

        connections = self.chosen_of(_BOTOCORE).get("max_pool_connections", workload.in_flight)
        options = self.chosen_of(_S3FS)
        where = workload.target, workload.array.key
        found = fsspec_location(*where, connections=int(connections), trace=trace, s3fs_options=options)
        filesystem = fsspec.filesystem(found.protocol, asynchronous=True, **found.options)
        self._filesystems.append(filesystem)
        return FsspecStore(filesystem, read_only=True, path=found.path)

    @override
    def close(self) -> None:
        super().close()
        from zarr.core.sync import sync  # the client lives on zarr's event loop

        for filesystem in self._filesystems:
            # s3fs keeps a client that it may not have made yet, fsspec's own HTTP a session.
            for client in (getattr(filesystem, "s3", None), getattr(filesystem, "_session", None)):
                if client is not None:
                    sync(client.close())


class _HttpCounts:
    """What aiohttp sends and receives, request by request.

    s3fs adds HEADs, splits large objects and asks again behind one store call, and aiohttp follows redirects, so only
    the HTTP level can be counted.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start counting from zero."""
        self._sent = RequestCounts()
        self._good = 0
        self._bodies: list[aiohttp.StreamReader] = []

    def request_counts(self) -> RequestCounts:
        """Return what was counted; whatever had no good answer was sent again, else the read would have failed."""
        cut = sum(not body.is_eof() for body in self._bodies)
        return RequestCounts(
            requests=self._sent.requests,
            index_requests=self._sent.index_requests,
            head_requests=self._sent.head_requests,
            retries=self._sent.requests - self._good + cut,
            fetched_bytes=self._sent.fetched_bytes + sum(body.total_bytes for body in self._bodies),
        )

    def trace(self) -> aiohttp.TraceConfig:
        """Return the trace by which aiohttp tells of its requests, to be given to each session."""
        import aiohttp

        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(self._headers_sent)
        trace.on_request_redirect.append(self._redirected)
        trace.on_request_end.append(self._answered)
        return trace

    async def _headers_sent(self, _session: Any, _context: Any, params: aiohttp.TraceRequestHeadersSentParams) -> None:
        self._sent.requests += 1
        self._sent.head_requests += params.method == "HEAD"

    async def _redirected(self, _session: Any, _context: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
        self._good += 1
        self._sent.fetched_bytes += params.response.content_length or 0  # it is thrown away, maybe before it has come

    async def _answered(self, _session: Any, _context: Any, params: aiohttp.TraceRequestEndParams) -> None:
        status = params.response.status
        self._good += status < _FAILURE and status != _TOO_MANY
        is_suffix = params.headers.get("Range", "").startswith(_SUFFIX)
        self._sent.index_requests += is_suffix and status == _PARTIAL
        self._bodies.append(params.response.content)


def _demand_known(pipeline: object) -> None:
    """Raise UnsupportedError for the fused pipeline where the zarr under test has none."""
    if pipeline != _FUSED:
        return
    import zarr.core.codec_pipeline

    if not hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        raise UnsupportedError(f"zarr {zarr.__version__} has no FusedCodecPipeline; it came with 3.3.0")


def _keeping(store: Any) -> Any:
    """Return a store that keeps what zarr-python asks for key by key: of a shard, that is its index.

    The ranges of chunks are asked for together (`Store.get_ranges`), which goes past the cache.
    """
    from zarr.abc.store import Store
    from zarr.storage import MemoryStore

    try:
        from zarr.experimental.cache_store import CacheStore
    except ImportError as error:
        raise UnsupportedError("this zarr has no CacheStore") from error
    if not hasattr(Store, "get_ranges"):
        raise UnsupportedError("the CacheStore of this zarr would keep chunks too: it has no get_ranges")
    return CacheStore(store, cache_store=MemoryStore())


def opened(store: Any, workload: Workload, *, path: str = "") -> Any:
    """Return the workload's array, opened as a user does; an UnsupportedError says that zarr-python refuses it.

    Or that it would read it wrong (docs/public.md).
    """
    import zarr

    if workload.array.nan_payload and workload.array.dtype == "float16":
        raise UnsupportedError(
            "zarr-python cannot read this array: of a fill value of float16 it loses a NaN's payload"
        )
    with refusals("zarr-python", ValueError, TypeError, KeyError, NotImplementedError, ImportError):
        return zarr.open_array(store, path=path, mode="r", zarr_format=workload.array.zarr_format)


def demand_pipeline(array: Any, wanted: str | None) -> None:
    """Raise UnsupportedError unless the array decodes with the codec pipeline that was asked for.

    A pipeline that does not know the store falls back to zarr-python's own without a word.
    """
    found = type(array._async_array.codec_pipeline)
    if wanted is not None and found.__name__ != wanted.rpartition(".")[2]:
        raise UnsupportedError(f"zarr-python decodes with {found.__name__}, not with {wanted.rpartition('.')[2]}")

"""The recorder: zarr's settings exchanged for classes that note what happens, and restored when it is over."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Self, cast

import zarr
from zarr.codecs import ShardingCodec
from zarr.core.buffer import cpu
from zarr.registry import (
    get_buffer_class,
    get_ndbuffer_class,
    get_pipeline_class,
    register_buffer,
    register_ndbuffer,
    register_pipeline,
)
from zarr.storage import StorePath

from harness.datasets.array import grid
from harness.datasets.shards import index_nbytes
from harness.errors import BadUseError
from harness.timeline.model import Timeline
from harness.timeline.zarr_python.assemble import assemble
from harness.timeline.zarr_python.buffers import RecordedBuffer, RecordedNDBuffer
from harness.timeline.zarr_python.codecs import timed
from harness.timeline.zarr_python.events import Get, Item, Layout, Recording, now
from harness.timeline.zarr_python.stores import WatchedStore, watched

_PIPELINES = "zarr.core.codec_pipeline"
"""The module of zarr's own pipelines: another's decodes out of sight, or does not know a watched store."""
_INDEX_CODECS = ("BytesCodec", "Crc32cCodec")


class Recorder:
    """Notes where the time of every chunk goes while it is entered; one at a time, and again as often as wanted.

    zarr builds an array's codec pipeline when the array is opened, so only arrays opened while the recorder was
    entered are recorded; an array opened before has its plain pipeline for good.

    Parameters
    ----------
    stamp_bodies
        Note when each part of a response's body arrives, where the store tells (obstore): chunks of a merged range
        then have a first and a last byte of their own. Costs time with large bodies.
    """

    def __init__(self, *, stamp_bodies: bool = False) -> None:
        self.stamp_bodies = stamp_bodies
        self.active = False
        self._entered = contextlib.ExitStack()
        self._pipelines: dict[type[Any], type[Any]] = {}
        self._nd_buffer: Any = _derived("RecorderNDBuffer", RecordedNDBuffer, strays=[])
        self._forget()

    def _forget(self) -> None:
        self.recording = Recording()
        self._nd_buffer.strays.clear()

    def __enter__(self) -> Self:
        base, plain_buffers = get_pipeline_class(), (get_buffer_class(), get_ndbuffer_class())
        if issubclass(base, RecordedPipeline):
            raise BadUseError("a timeline is being recorded already: zarr's settings hold for the whole process")
        if not any(parent.__module__ == _PIPELINES for parent in base.__mro__):
            raise BadUseError(f"{base.__name__} cannot be recorded: timelines need one of zarr's own codec pipelines")
        if plain_buffers != (cpu.Buffer, cpu.NDBuffer):
            raise BadUseError("timelines need zarr's own CPU buffers: reset zarr.config's buffer and ndbuffer")
        pipeline = self._pipeline(base)
        # Registering again replaces: the registry never holds more than one recorder.
        register_pipeline(pipeline)
        register_buffer(RecordedBuffer)
        register_ndbuffer(self._nd_buffer)
        self._entered.enter_context(
            zarr.config.set(
                {
                    "codec_pipeline.path": _name(pipeline),
                    "buffer": _name(RecordedBuffer),
                    "ndbuffer": _name(self._nd_buffer),
                }
            )
        )
        self.active = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.active = False
        self._entered.close()
        if kind is None:
            self._check_recorded()

    def _check_recorded(self) -> None:
        if self._nd_buffer.strays:
            raise BadUseError(
                "an array was read that had been opened before the recording: open it inside the recording"
            )

    def begin(self) -> None:
        """Forget what was recorded so far: the read that counts starts now."""
        self._forget()
        self.recording.begin_ns = now()

    def end(self) -> None:
        """Note that the read that counts is over."""
        self.recording.end_ns = now()

    def watch(self, store: Any) -> WatchedStore:
        """Return `store` for opening an array: so requests for metadata are recorded too."""
        return watched(store, self, None)

    def timeline(self, **header: Any) -> Timeline:
        """Return what was recorded since `begin`; see `harness.timeline.zarr_python.assemble.assemble`."""
        return assemble(self.recording, **header)

    def started(self, key: str, byte_range: Any, layout: Layout | None) -> Get:
        """Note that a request begins."""
        get = Get(key, byte_range, layout)
        self.recording.gets.append(get)
        return get

    def note(self, line: str) -> None:
        """Keep a remark for whoever looks at the timeline, once."""
        if line not in self.recording.notes:
            self.recording.notes.append(line)

    async def read(
        self, read: Any, codecs: Iterable[Any], batch: list[tuple[Any, ...]], out: Any, drop_axes: tuple[int, ...]
    ) -> Any:
        """Let a pipeline read from stores that are watched, into an array that notes copies.

        Parameters
        ----------
        read
            The pipeline's own method.
        codecs
            Its codecs.
        batch, out, drop_axes
            What zarr calls it with.
        """
        items, watching = self._watched(codecs, batch)
        final = out if isinstance(out, RecordedNDBuffer) else self._nd_buffer.from_ndarray_like(out.as_ndarray_like())
        final.final = True
        self.recording.begin_ns = self.recording.begin_ns or now()
        try:
            return await read(watching, final, drop_axes)
        finally:
            self.recording.end_ns = now()
            _assign(final, items)

    def _watched(
        self, codecs: Iterable[Any], batch: Iterable[tuple[Any, ...]]
    ) -> tuple[list[Item], list[tuple[Any, ...]]]:
        """Note what an array's read wants of each of its shards, and return that and the batch with watched stores."""
        sharding = [codec for codec in codecs if isinstance(codec, ShardingCodec)]
        layouts: dict[tuple[int, ...], Layout | None] = {}
        stores: dict[tuple[int, Layout | None], WatchedStore] = {}
        items, watching = [], []
        for path, spec, selection, out_selection, *rest in batch:
            if spec.shape not in layouts:
                layouts[spec.shape] = self._layout(sharding, spec.shape)
            layout = layouts[spec.shape]
            known = (id(path.store), layout)
            if known not in stores:
                stores[known] = watched(path.store, self, layout)
            items.append(Item(path.path, spec.shape, selection, out_selection, layout))
            watching.append((StorePath(stores[known], path.path), spec, selection, out_selection, *rest))
        self.recording.items += items
        return items, watching

    def _layout(self, sharding: list[Any], shard_shape: tuple[int, ...]) -> Layout | None:
        if not sharding:
            return None
        codec = sharding[0]
        if any(isinstance(inner, ShardingCodec) for inner in codec.codecs):
            raise BadUseError("timelines of shards inside shards are not supported")
        if tuple(type(inner).__name__ for inner in codec.index_codecs) != _INDEX_CODECS:
            raise BadUseError("timelines need shard indexes stored as bytes with a CRC32C, as zarr writes them")
        per_shard = grid(shard_shape, codec.chunk_shape)
        at_end = getattr(codec.index_location, "value", codec.index_location) == "end"
        return Layout(per_shard, tuple(codec.chunk_shape), at_end, index_nbytes(per_shard))

    def _pipeline(self, base: type[Any]) -> type[Any]:
        """Derive from the configured pipeline; once per class, since zarr keeps pipelines by their class."""
        if base not in self._pipelines:
            self._pipelines[base] = _derived("RecorderPipeline", RecordedPipeline, base, recorder=self)
        return self._pipelines[base]


class RecordedPipeline:
    """Mixed in before the configured codec pipeline: times its codecs and watches the stores it reads from."""

    recorder: Recorder

    @classmethod
    def from_codecs(cls, codecs: Iterable[Any], **options: Any) -> Any:
        """Build the pipeline of timed codecs."""
        return super().from_codecs(timed(codecs, cls._missed), **options)  # type: ignore[misc]

    @classmethod
    def _missed(cls, codec: str) -> None:
        cls.recorder.note(f"codec {codec} cannot be timed: decoding starts with the codec after it")

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> Any:
        """Read from watched stores, unless what is read are the chunks inside a shard that was fetched already."""
        plain, batch = super().read, list(batch_info)  # type: ignore[misc]
        inside_shard = not batch or not isinstance(batch[0][0], StorePath)
        if inside_shard or not self.recorder.active:
            return await plain(batch, out, drop_axes)
        codecs = cast("Iterable[Any]", self)
        return await self.recorder.read(plain, codecs, batch, out, drop_axes)

    async def write(self, *arguments: Any, **options: Any) -> Any:
        """Refuse: copies into chunks that are written would be taken for a read's."""
        if self.recorder.active:
            raise BadUseError("timelines are of reads: write outside the recording")
        return await super().write(*arguments, **options)  # type: ignore[misc]


def _derived(name: str, *bases: type[Any], **members: Any) -> type[Any]:
    """Return a class of one recorder, registered in zarr under the same name as every other recorder's."""
    return type(name, bases, {**members, "__module__": __name__, "__qualname__": name})


def _name(cls: type[Any]) -> str:
    """Return the name under which zarr registers a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _assign(final: RecordedNDBuffer, items: list[Item]) -> None:
    """Give copies of whole shards, in which no chunk was seen, to the items whose selections they went to."""
    if final.untold is not None:
        by_selection = {id(item.out_selection): item for item in items}
        for selection, when in final.untold:
            if selection in by_selection:
                by_selection[selection].copied = when


@contextlib.contextmanager
def record(*, stamp_bodies: bool = False) -> Iterator[Recorder]:
    """Record a timeline of what zarr-python reads in this block: any array, store and codecs.

    Open the array inside the block; an array opened before cannot be recorded, and a BadUseError says so::

        with record() as recording:
            zarr.open_array(store, mode="r")[0:4]
        timeline = recording.timeline()

    Parameters
    ----------
    stamp_bodies
        As of `Recorder`.

    Raises
    ------
    BadUseError
        Another recording is going on, nothing was read from an array opened inside, or its shards are of a form
        that cannot be recorded.
    """
    with Recorder(stamp_bodies=stamp_bodies) as recorder:
        yield recorder
    if not recorder.recording.items:
        raise BadUseError("nothing was recorded: open the array and read from it inside the recording")

"""Codecs that say when they start and end with a chunk: whatever class they are of, by deriving from it.

A sharding codec is no codec of chunks: those inside it are timed. The codecs of the shard index are left alone.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from threading import get_ident
from typing import Any, cast

from zarr.codecs import ShardingCodec

from harness.timeline.zarr_python.buffers import RecordedBuffer, RecordedNDBuffer
from harness.timeline.zarr_python.events import Chunk, now


class TimedCodec:
    """Marks the classes that `timed` derives."""


def timed(codecs: Iterable[Any], missed: Callable[[str], None]) -> list[Any]:
    """Return codecs that decode like `codecs` and note each chunk's decoding.

    Parameters
    ----------
    codecs
        A pipeline's codecs.
    missed
        Told the class name of a codec that cannot be derived from; it stays as it is.
    """
    return [_timed_codec(codec, missed) for codec in codecs]


def _timed_codec(codec: Any, missed: Callable[[str], None]) -> Any:
    if isinstance(codec, TimedCodec):
        return codec
    if isinstance(codec, ShardingCodec):
        inner = tuple(timed(codec.codecs, missed))
        unchanged = all(new is old for new, old in zip(inner, codec.codecs, strict=True))
        return codec if unchanged else replace(codec, codecs=inner)
    twin = copy.copy(codec)
    try:
        object.__setattr__(
            twin, "__class__", _timed_class(cast("Any", type(codec)))
        )  # frozen dataclasses forbid the plain form
    except TypeError:
        missed(type(codec).__name__)
        return codec
    return twin


@cache
def _timed_class(base: Any) -> type[Any]:
    """Derive from a codec's class at the method that does the work: the synchronous one where there is one."""
    methods = {"_decode_sync": _decode_sync(base)} if hasattr(base, "_decode_sync") else {}
    if not methods:
        methods = {"_decode_single": _decode_single(base)}
    return type(f"Timed{base.__name__}", (TimedCodec, base), {**methods, "__module__": __name__})


def _decode_sync(base: type[Any]) -> Callable[..., Any]:
    plain = base._decode_sync

    def decode(self: Any, data: Any, spec: Any) -> Any:
        chunk = _begin(data)
        if chunk is None:
            return plain(self, data, spec)
        if chunk.thread is None:
            chunk.thread = get_ident()
        start_ns = now()
        decoded = plain(self, data, spec)
        chunk.decoded_ns = now()
        chunk.busy_ns += chunk.decoded_ns - start_ns
        return _end(chunk, decoded)

    return decode


def _decode_single(base: type[Any]) -> Callable[..., Any]:
    """Time a codec without synchronous form, which may send the work to a thread.

    The start is when that thread first looks at the bytes, the end when it made the decoded ones (see buffers.py).
    """
    plain = base._decode_single

    async def decode(self: Any, data: Any, spec: Any) -> Any:
        chunk = _begin(data)
        if chunk is None:
            return await plain(self, data, spec)
        start_ns = now()
        decoded = await plain(self, data, spec)
        chunk.decoded_ns = getattr(decoded, "born_ns", None) or now()
        chunk.busy_ns += chunk.decoded_ns - max(start_ns, chunk.decode_start_ns)
        return _end(chunk, decoded)

    return decode


def _begin(data: Any) -> Chunk | None:
    """Return the chunk that `data` is, new when its first codec asks; None for bytes of no recorded request."""
    if isinstance(data, RecordedBuffer):
        if data.chunk is None and data.get is not None:
            data.chunk = Chunk(data.get, data.offset, len(data))
            data.get.chunks.append(data.chunk)
        return data.chunk
    return data.chunk if isinstance(data, RecordedNDBuffer) else None


def _end(chunk: Chunk, decoded: Any) -> Any:
    if isinstance(decoded, RecordedBuffer | RecordedNDBuffer):
        decoded.chunk = chunk
    return decoded

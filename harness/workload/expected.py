"""Where the truth of a workload comes from: the manifest, or the stored chunks themselves."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import google_crc32c
import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from harness.datasets.manifest import Manifest
from harness.datasets.shards import MISSING, ShardIndex
from harness.errors import MeasurementError
from harness.targets.client import open_store, reaching
from harness.targets.target import Target
from harness.workload.patterns import selection_shape
from harness.workload.placement import Slices
from harness.workload.selections import Piece, pieces
from harness.workload.truth import Array, Chunk, Truth, crc32c, little_endian, pack

if TYPE_CHECKING:
    from harness.datasets.array import ArrayInfo
    from harness.targets.obstore import Store

_AT_ONCE = 32
"""Chunks fetched at once: as many are held in memory."""


def of_chunks(known: Manifest, wanted: Sequence[Chunk]) -> Truth:
    """Return the truth of whole chunks: the manifest's checksums of `wanted`."""
    return Truth(decoded_crc32c=pack(known.decoded_crc32c[tuple(np.array(wanted).T)]))


def of_reads(
    target: Target,
    known: Manifest,
    array: "ArrayInfo",
    reads: Sequence[Slices],
    indexes: Mapping[Chunk, ShardIndex],
) -> Truth:
    """Return the truth of selections that want chunks in part, from the stored chunks themselves.

    Every chunk is fetched and decoded here, without any of the readers under test, and compared with the manifest
    before its elements count.

    Parameters
    ----------
    indexes
        The index of every shard that the reads touch.

    Raises
    ------
    MeasurementError
        A chunk that is not what the manifest says.
    StoreError
        The target cannot be reached or refuses.
    """
    arrays = [np.empty(selection_shape(read), little_endian(array.dtype)) for read in reads]
    users: dict[Chunk, list[tuple[Array, Piece]]] = {}
    for read, whole in zip(reads, arrays, strict=True):
        for piece in pieces(read, array.chunk_shape):
            users.setdefault(piece.chunk, []).append((whole, piece))
    source = _Source(open_store(target, prefix=array.key), known, array, indexes)

    async def fill_all() -> None:
        permits = asyncio.Semaphore(_AT_ONCE)

        async def fill(chunk: Chunk, places: list[tuple[Array, Piece]]) -> None:
            async with permits:
                values = await source.chunk(chunk)
            for whole, piece in places:
                whole[piece.in_read] = values[piece.in_chunk]

        async with asyncio.TaskGroup() as group:
            for chunk, places in users.items():
                group.create_task(fill(chunk, places))

    with reaching(target):
        try:
            asyncio.run(fill_all())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return Truth(reads_crc32c=pack(map(crc32c, arrays)))


class _Source:
    """The chunks of a dataset, each compared with the manifest."""

    def __init__(
        self, store: "Store", known: Manifest, array: "ArrayInfo", indexes: Mapping[Chunk, ShardIndex]
    ) -> None:
        self._store, self._known, self._array, self._indexes = store, known, array, indexes
        self._decode = _decoder(array.codec)

    async def chunk(self, chunk: Chunk) -> Array:
        """Return a chunk's elements; one that is not stored holds the fill value, zero."""
        array = self._array
        shard, inner = array.place(chunk)
        index = self._indexes[shard]
        begin, length = index.offsets[inner], index.lengths[inner]
        dtype = little_endian(array.dtype)
        if begin == MISSING:
            decoded = bytes(math.prod(array.chunk_shape) * dtype.itemsize)
        else:
            end = int(begin + length)
            fetched = await self._store.get_range_async(array.object_key(shard), start=int(begin), end=end)
            decoded = self._decoded(chunk, bytes(cast("bytes", fetched)))
        if google_crc32c.value(decoded) != self._known.decoded_crc32c[chunk]:
            raise MeasurementError(_damage(array.key, chunk, "its decoded bytes do not match the manifest"))
        return np.frombuffer(decoded, dtype).reshape(array.chunk_shape)

    def _decoded(self, chunk: Chunk, stored: bytes) -> bytes:
        try:
            return self._decode(stored)
        except Exception as error:  # whatever the codec's library raises
            raise MeasurementError(_damage(self._array.key, chunk, f"it cannot be decoded: {error}")) from error


def _damage(key: str, chunk: Chunk, what: str) -> str:
    return f"chunk {chunk} of {key} is damaged in the store: {what}; look with `zcb data verify`"


def _decoder(codec: str) -> Callable[[bytes], bytes]:
    """Return what decodes a stored chunk; codecs are those of `harness.datasets.manifest.CODECS`."""
    if codec == "none":
        return lambda stored: stored
    library = {"zstd": Zstd, "blosc-lz4": Blosc}[codec]()
    return lambda stored: bytes(library.decode(stored))

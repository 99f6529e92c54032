"""What the arrays of a workload must hold, as checksums: where they come from, and the comparison."""

import asyncio
import base64
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from harness.errors import MeasurementError
from harness.manifest import Manifest
from harness.objectstore import open_store, reaching
from harness.patterns import Slices, selection_shape
from harness.selections import Piece, pieces
from harness.shards import MISSING, ShardIndex, shard_key
from harness.targets import Target

if TYPE_CHECKING:
    from harness.access import Store
    from harness.arrays import ArrayInfo

_AT_ONCE = 32
"""Chunks fetched at once: as many are held in memory."""

Chunk = tuple[int, ...]
Array = npt.NDArray[Any]


class Truth(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the arrays must hold: one of two lists of CRC32C, as base64 of little-endian uint32.

    Raises
    ------
    ValueError
        Both lists, or none.
    """

    decoded_crc32c: str | None = None
    """Of each wanted chunk's decoded bytes, read by read, chunks in C order: where chunks are wanted whole."""
    reads_crc32c: str | None = None
    """Of each read's whole array, C order: where chunks are wanted in part, or nothing is known of chunks."""
    agreed_by: tuple[str, ...] = ()
    """The readers that agree on it where the array has no manifest; empty where the manifest says it."""

    def __post_init__(self) -> None:
        """Refuse a truth that says nothing, or the same twice."""
        if (self.decoded_crc32c is None) == (self.reads_crc32c is None):
            raise ValueError("a truth holds exactly one of decoded_crc32c and reads_crc32c")


UNKNOWN = Truth(reads_crc32c="")
"""Of a workload that is not yet complete."""


def check(truth: Truth) -> None:
    """Refuse checksums that are not base64 of whole numbers; a ValueError says so."""
    for packed in filter(None, (truth.decoded_crc32c, truth.reads_crc32c)):
        try:
            whole = len(base64.b64decode(packed, validate=True)) % 4 == 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("its checksums are not base64 of uint32")


def of_chunks(known: Manifest, wanted: Sequence[Chunk]) -> Truth:
    """Return the truth of whole chunks: the manifest's checksums of `wanted`."""
    return Truth(decoded_crc32c=_pack(known.decoded_crc32c[tuple(np.array(wanted).T)]))


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
    arrays = [np.empty(selection_shape(read), _little(array.dtype)) for read in reads]
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
    return Truth(reads_crc32c=_pack(map(_crc32c, arrays)))


class _Source:
    """The chunks of a dataset, each compared with the manifest."""

    def __init__(
        self, store: "Store", known: Manifest, array: "ArrayInfo", indexes: Mapping[Chunk, ShardIndex]
    ) -> None:
        self._store, self._known, self._array, self._indexes = store, known, array, indexes
        self._decode = _decoder(array.codec)

    async def chunk(self, chunk: Chunk) -> Array:
        """Return a chunk's elements; one that is not stored holds the fill value, zero."""
        array, per_shard = self._array, self._array.chunks_per_shard
        shard = tuple(c // n for c, n in zip(chunk, per_shard, strict=True))
        inner = tuple(c % n for c, n in zip(chunk, per_shard, strict=True))
        index = self._indexes[shard]
        begin, length = index.offsets[inner], index.lengths[inner]
        dtype = _little(array.dtype)
        if begin == MISSING:
            decoded = bytes(math.prod(array.chunk_shape) * dtype.itemsize)
        else:
            end = int(begin + length)
            fetched = await self._store.get_range_async(shard_key(shard), start=int(begin), end=end)
            decoded = self._decoded(chunk, bytes(cast("bytes", fetched)))
        if google_crc32c.value(decoded) != self._known.decoded_crc32c[chunk]:
            raise MeasurementError(_damage(array.key, chunk, "its decoded bytes do not match the manifest"))
        return np.frombuffer(decoded, dtype).reshape(array.chunk_shape)

    def _decoded(self, chunk: Chunk, stored: bytes) -> bytes:
        try:
            return self._decode(stored)
        except Exception as error:  # whatever the codec's library raises
            raise MeasurementError(_damage(self._array.key, chunk, f"it cannot be decoded: {error}")) from error


def verify(truth: Truth, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    """Compare the arrays a reader returned with the truth.

    Raises
    ------
    MeasurementError
        A wrong number, shape, dtype or element; the message names the first bad read or chunk.
    """
    _check_shapes(array, reads, arrays)
    if truth.decoded_crc32c is not None:
        _verify_chunks(truth.decoded_crc32c, array, reads, arrays)
    elif truth.reads_crc32c is not None:
        _verify_reads(truth.reads_crc32c, array, reads, arrays)


def checksums(array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> str:
    """Return the checksums of whole arrays, as `Truth.reads_crc32c` has them.

    Raises
    ------
    MeasurementError
        A wrong number, shape or dtype.
    """
    _check_shapes(array, reads, arrays)
    return _pack(map(_crc32c, arrays))


def first_difference(one: str, other: str) -> int | None:
    """Return the first read in which two lists of checksums differ; None when they are equal."""
    pairs = itertools.zip_longest(_unpack(one), _unpack(other))
    return next((number for number, (left, right) in enumerate(pairs) if left != right), None)


def _check_shapes(array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    if len(arrays) != len(reads):
        raise MeasurementError(f"{len(arrays)} arrays returned for {len(reads)} reads")
    dtype = np.dtype(array.dtype)
    for read, got in zip(reads, arrays, strict=True):
        shape = selection_shape(read)
        if got.shape != shape or got.dtype != dtype:
            raise MeasurementError(f"got {got.dtype}{got.shape}, expected {dtype}{shape}")


def _verify_chunks(packed: str, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    known = iter(_unpack(packed))
    size = math.prod(array.chunk_shape)
    for read, got in zip(reads, arrays, strict=True):
        for piece in pieces(read, array.chunk_shape):
            part = got[piece.in_read]
            if part.size != size:
                raise MeasurementError(f"chunk {piece.chunk} is only wanted in part: its checksum cannot be compared")
            crc = next(known, None)
            if crc is None:
                raise MeasurementError("the workload's reads touch more chunks than its truth names")
            if _crc32c(part) != crc:
                raise MeasurementError(
                    f"chunk {piece.chunk} of {array.key} is wrong: its decoded bytes do not match the manifest"
                )
    if next(known, None) is not None:
        raise MeasurementError("the workload names more chunks than its reads touch")


def _verify_reads(packed: str, array: "ArrayInfo", reads: Sequence[Slices], arrays: Sequence[Array]) -> None:
    known = _unpack(packed)
    if len(known) != len(reads):
        raise MeasurementError(f"the workload's truth names {len(known)} arrays for {len(reads)} reads")
    for number, (read, got, crc) in enumerate(zip(reads, arrays, known, strict=True)):
        if _crc32c(got) != crc:
            raise MeasurementError(
                f"read {number} of {array.key}, [{_text(read)}], is wrong: "
                "the bytes of its array do not match the workload's truth"
            )


def _text(read: Slices) -> str:
    return ", ".join(f"{a}:{b}" if step == 1 else f"{a}:{b}:{step}" for a, b, step in read)


def _damage(key: str, chunk: Chunk, what: str) -> str:
    return f"chunk {chunk} of {key} is damaged in the store: {what}; look with `zcb data verify`"


def _decoder(codec: str) -> Callable[[bytes], bytes]:
    """Return what decodes a stored chunk; codecs are those of `harness.manifest.CODECS`."""
    if codec == "none":
        return lambda stored: stored
    library = {"zstd": Zstd, "blosc-lz4": Blosc}[codec]()
    return lambda stored: bytes(library.decode(stored))


def _little(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("<")


def _crc32c(array: Array) -> int:
    """Return the CRC32C of an array's elements in C order."""
    crc: int = google_crc32c.value(array.tobytes())
    return crc


def _pack(crcs: Iterable[int]) -> str:
    return base64.b64encode(np.fromiter(crcs, "<u4").tobytes()).decode()


def _unpack(packed: str) -> list[int]:
    values: list[int] = np.frombuffer(base64.b64decode(packed), "<u4").tolist()
    return values

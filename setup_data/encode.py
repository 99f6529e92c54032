"""From a spec to stored bytes: a shard's chunks in their order with the index at the end, and zarr.json.

Assembled here and not by zarr-python, because what is measured must not have written what it reads.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
from numcodecs.abc import Codec
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from harness.manifest import Crcs, DatasetSpec
from setup_data.field import Field

ZSTD_LEVEL = 1
BLOSC_LEVEL = 5
CRC_NBYTES = 4

_BOX_NBYTES = 4 << 20
"""Chunks are computed together up to this size: faster than one by one, and memory stays bounded."""

Coordinates = tuple[int, ...]
Ints = npt.NDArray[np.int64]
Index = npt.NDArray[np.uint64]


class Codecs:
    """A spec's bytes-to-bytes codec, as zarr.json names it and as numcodecs runs it (from any thread)."""

    def __init__(self, spec: DatasetSpec) -> None:
        self.dtype = np.dtype(spec.dtype).newbyteorder("<")
        self._codec: Codec | None = None
        if spec.codec == "zstd":
            self._codec = Zstd(level=ZSTD_LEVEL)
        elif spec.codec == "blosc-lz4":
            self._codec = Blosc(cname="lz4", clevel=BLOSC_LEVEL, shuffle=Blosc.SHUFFLE)

    def encode(self, decoded: bytes) -> bytes:
        """Return a chunk's stored bytes."""
        if self._codec is None:
            return decoded
        # Only Blosc, which shuffles bytes, looks at the type; wrapping small chunks for nothing costs time.
        typed = np.frombuffer(decoded, self.dtype) if isinstance(self._codec, Blosc) else decoded
        return bytes(self._codec.encode(typed))

    def decode(self, stored: bytes) -> bytes:
        """Return a chunk's decoded bytes; a damaged chunk raises whatever numcodecs raises."""
        return stored if self._codec is None else bytes(self._codec.decode(stored))


@functools.lru_cache(maxsize=8)
def stored_order(spec: DatasetSpec) -> Ints:
    """Return the order of the chunks in a shard.

    Returns
    -------
    numpy.ndarray
        C-order numbers of the chunks in the shard, in the order their bytes are stored; int64 of shape
        (chunks in a shard,).
    """
    grid = spec.chunks_per_shard
    if spec.subchunk_order == "c":
        return np.arange(math.prod(grid), dtype=np.int64)
    return np.argsort(_morton_codes(grid), kind="stable")


def _morton_codes(grid: Coordinates) -> Ints:
    """Return the Morton code of each position in `grid`, in C order.

    The axes' bits are interleaved from the lowest, first axis first; an axis whose length needs no more bits
    is left out of the higher rounds, so that the codes of a power-of-two grid have no holes.
    """
    lengths = [(length - 1).bit_length() for length in grid]
    codes = np.zeros(grid, np.int64)
    place = 0
    for bit in range(max(lengths)):
        for axis, positions in enumerate(np.indices(grid, sparse=True)):
            if bit < lengths[axis]:
                codes |= ((positions >> bit) & 1) << place
                place += 1
    return codes.reshape(-1)


def layout(spec: DatasetSpec, nbytes: npt.NDArray[np.uint64]) -> Index:
    """Return the index of a shard whose chunks (in C order) have `nbytes` stored bytes.

    Returns
    -------
    numpy.ndarray
        Offset and length of each chunk, in C order; uint64 of shape (chunks in a shard, 2).
    """
    order = stored_order(spec)
    ends = np.cumsum(nbytes[order])
    index = np.empty((len(order), 2), np.uint64)
    index[order, 0] = ends - nbytes[order]
    index[:, 1] = nbytes
    return index


def encode_index(index: Index) -> bytes:
    """Return the stored bytes of a shard's index: little-endian, then their CRC32C."""
    data = index.astype("<u8", copy=False).tobytes()
    crc: int = google_crc32c.value(data)
    return data + crc.to_bytes(CRC_NBYTES, "little")


def index_nbytes(spec: DatasetSpec) -> int:
    """Return the stored size of a shard's index."""
    return 16 * math.prod(spec.chunks_per_shard) + CRC_NBYTES


class ShardWriter:
    """Encodes one shard, piece by piece in stored order; its checksums are complete after the last piece.

    Parameters
    ----------
    spec
        The dataset.
    shard
        The shard's position in ``spec.shard_grid``.
    """

    def __init__(self, spec: DatasetSpec, shard: Coordinates) -> None:
        self._spec = spec
        self._codecs = Codecs(spec)
        self._field = Field(spec.seed, spec.dtype)
        self._start = tuple(a * b for a, b in zip(shard, spec.shard_shape, strict=True))
        self.stored_crc32c: Crcs = np.zeros(spec.chunks_per_shard, np.uint32)
        self.decoded_crc32c: Crcs = np.zeros(spec.chunks_per_shard, np.uint32)
        self.nbytes = 0
        """Bytes of the pieces so far."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the chunks' stored bytes, then the index."""
        sizes = np.zeros(self.stored_crc32c.size, np.uint64)
        for number, decoded in self._chunks():
            stored = self._codecs.encode(decoded)
            self.stored_crc32c.flat[number] = google_crc32c.value(stored)
            self.decoded_crc32c.flat[number] = google_crc32c.value(decoded)
            sizes[number] = len(stored)
            self.nbytes += len(stored)
            yield stored
        index = encode_index(layout(self._spec, sizes))
        self.nbytes += len(index)
        yield index

    def _chunks(self) -> Iterator[tuple[int, bytes]]:
        """Yield each chunk's C-order number in the shard and its decoded bytes, in stored order."""
        for box in boxes(self._spec):
            start = tuple(map(sum, zip(self._start, box.start, strict=True)))
            values = self._field.box(start, box.shape).astype(self._codecs.dtype, copy=False)
            for number, chunk in box.chunks:
                yield number, values[chunk].tobytes()


@dataclass(frozen=True)
class ChunkBox:
    """Chunks that follow each other in stored order and fill a box of the shard."""

    start: Coordinates
    """First element, counted from the shard's."""
    shape: Coordinates
    """Elements per axis."""
    chunks: list[tuple[int, tuple[slice, ...]]]
    """C-order number in the shard and place in the box of each chunk, in stored order."""


@functools.lru_cache(maxsize=8)
def boxes(spec: DatasetSpec) -> list[ChunkBox]:
    """Return the boxes that make up a shard, in stored order, each of at most 4 MiB or one chunk.

    Runs of the stored order are halved until they fill a box: that finds the planes of C order and the cubes of
    Morton order alike.
    """
    order = stored_order(spec)
    positions = np.stack(np.unravel_index(order, spec.chunks_per_shard), axis=-1)
    most = max(1, _BOX_NBYTES // spec.chunk_nbytes)
    found = []
    runs = [(0, len(order))]
    while runs:
        first, end = runs.pop()
        low, high = positions[first:end].min(0), positions[first:end].max(0) + 1
        if end - first <= most and math.prod((high - low).tolist()) == end - first:
            found.append(_chunk_box(spec, order[first:end], positions[first:end], low, high))
        else:
            middle = (first + end) // 2
            runs += [(middle, end), (first, middle)]
    return found


def _chunk_box(spec: DatasetSpec, numbers: Ints, positions: Ints, low: Ints, high: Ints) -> ChunkBox:
    start, shape = low * spec.chunk_shape, (high - low) * spec.chunk_shape
    corners = ((positions - low) * spec.chunk_shape).tolist()
    places = [tuple(map(slice, corner, np.add(corner, spec.chunk_shape).tolist())) for corner in corners]
    chunks = list(zip(numbers.tolist(), places, strict=True))
    return ChunkBox(tuple(start.tolist()), tuple(shape.tolist()), chunks)


def shards(spec: DatasetSpec) -> Iterator[Coordinates]:
    """Yield the positions of all shards in C order, the order in which they are written."""
    return itertools.product(*map(range, spec.shard_grid))


def shard_key(spec: DatasetSpec, shard: Coordinates) -> str:
    """Return the key of a shard under the target."""
    return f"{spec.key}/c/{'/'.join(map(str, shard))}"


def zarr_json(spec: DatasetSpec) -> bytes:
    """Return the array's metadata document."""
    size = np.dtype(spec.dtype).itemsize
    little: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
    codecs: list[dict[str, Any]] = [little if size > 1 else {"name": "bytes"}]
    if spec.codec == "zstd":
        codecs.append({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}})
    elif spec.codec == "blosc-lz4":
        blosc = {"cname": "lz4", "clevel": BLOSC_LEVEL, "shuffle": "shuffle", "typesize": size}
        codecs.append({"name": "blosc", "configuration": blosc | {"blocksize": 0}})
    sharding = {
        "chunk_shape": spec.chunk_shape,
        "codecs": codecs,
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": "end",
    }
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": spec.shape,
        "data_type": spec.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": spec.shard_shape}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {"subchunk_order": spec.subchunk_order, "seed": spec.seed},
    }
    return bytes(msgspec.json.format(msgspec.json.encode(document), indent=2))

"""From a spec to stored bytes: a shard's chunks in their order with the index at the end, and zarr.json.

Assembled here and not by zarr-python, because what is measured must not have written what it reads.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
from numcodecs.abc import Codec
from numcodecs.blosc import Blosc
from numcodecs.zstd import Zstd

from harness.datasets import shards as stored_shards
from harness.datasets.manifest import Crcs, DatasetSpec
from setup_data.field import Field

ZSTD_LEVEL = 1
BLOSC_LEVEL = 5

_BOX_NBYTES = 4 << 20
"""Chunks are computed together up to this size: faster than one by one, and memory stays bounded."""

_PIECE_NBYTES = 16 << 20
"""Chunks are encoded in pieces of this decoded size, the unit of work of a thread."""

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
    return data + crc.to_bytes(stored_shards.CRC_NBYTES, "little")


def index_nbytes(spec: DatasetSpec) -> int:
    """Return the stored size of a shard's index."""
    return stored_shards.index_nbytes(spec.chunks_per_shard)


class Piece(NamedTuple):
    """Some consecutive chunks of a shard, encoded."""

    body: bytes
    """The chunks' stored bytes, without gaps."""
    nbytes: list[int]
    """Stored bytes of each, in stored order like the rest."""
    stored_crc32c: list[int]
    decoded_crc32c: list[int]


class EncodedShard:
    """Index, checksums and size of a shard as its pieces are added in stored order.

    Parameters
    ----------
    spec
        The dataset.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec = spec
        self._next = 0
        count = math.prod(spec.chunks_per_shard)
        self._sizes = np.zeros(count, np.uint64)
        self.stored_crc32c: Crcs = np.zeros(count, np.uint32)
        """Of each chunk, in C order; shape (chunks in a shard,)."""
        self.decoded_crc32c: Crcs = np.zeros(count, np.uint32)
        """The same of the decoded bytes."""

    @property
    def nbytes(self) -> int:
        """Stored size of the whole shard, once all pieces are added."""
        return int(self._sizes.sum()) + index_nbytes(self._spec)

    def add(self, piece: Piece) -> bytes:
        """Take note of the next piece and return its bytes."""
        numbers = stored_order(self._spec)[self._next : self._next + len(piece.nbytes)]
        self._next += len(numbers)
        self._sizes[numbers] = piece.nbytes
        self.stored_crc32c[numbers] = piece.stored_crc32c
        self.decoded_crc32c[numbers] = piece.decoded_crc32c
        return piece.body

    def index(self) -> bytes:
        """Return the stored bytes of the index, which follow the last piece."""
        return encode_index(layout(self._spec, self._sizes))


def encode_piece(spec: DatasetSpec, shard: Coordinates, first: int, end: int) -> Piece:
    """Encode the chunks of a shard's boxes `first` to `end` (exclusive); runs in any thread."""
    codecs, field = Codecs(spec), Field(spec.seed, spec.dtype)
    corner = [a * b for a, b in zip(shard, spec.shard_shape, strict=True)]
    bodies, decoded_crc32c = [], []
    for box in boxes(spec)[first:end]:
        start = tuple(map(sum, zip(corner, box.start, strict=True)))
        values = field.box(start, box.shape).astype(codecs.dtype, copy=False)
        for place in box.places:
            decoded = values[place].tobytes()
            decoded_crc32c.append(google_crc32c.value(decoded))
            bodies.append(codecs.encode(decoded))
    return Piece(
        body=b"".join(bodies),
        nbytes=list(map(len, bodies)),
        stored_crc32c=list(map(google_crc32c.value, bodies)),
        decoded_crc32c=decoded_crc32c,
    )


def pieces(spec: DatasetSpec) -> Iterator[tuple[int, int]]:
    """Yield the boxes of each piece of a shard: those of about 16 MiB, to be encoded together."""
    first, held = 0, 0
    for number, box in enumerate(boxes(spec)):
        held += len(box.places) * spec.chunk_nbytes
        if held >= _PIECE_NBYTES:
            yield first, number + 1
            first, held = number + 1, 0
    if held:
        yield first, len(boxes(spec))


def encode_shard(spec: DatasetSpec, shard: Coordinates) -> bytes:
    """Return a whole shard's stored bytes."""
    encoded = EncodedShard(spec)
    bodies = [encoded.add(encode_piece(spec, shard, first, end)) for first, end in pieces(spec)]
    return b"".join([*bodies, encoded.index()])


@dataclass(frozen=True)
class ChunkBox:
    """Chunks that follow each other in stored order and fill a box of the shard."""

    start: Coordinates
    """First element, counted from the shard's."""
    shape: Coordinates
    """Elements per axis."""
    places: list[tuple[slice, ...]]
    """Where in the box each chunk is, in stored order."""


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
            found.append(_chunk_box(spec, positions[first:end], low, high))
        else:
            middle = (first + end) // 2
            runs += [(middle, end), (first, middle)]
    return found


def _chunk_box(spec: DatasetSpec, positions: Ints, low: Ints, high: Ints) -> ChunkBox:
    start, shape = low * spec.chunk_shape, (high - low) * spec.chunk_shape
    corners = ((positions - low) * spec.chunk_shape).tolist()
    places = [tuple(map(slice, corner, np.add(corner, spec.chunk_shape).tolist())) for corner in corners]
    return ChunkBox(tuple(start.tolist()), tuple(shape.tolist()), places)


def shards(spec: DatasetSpec) -> Iterator[Coordinates]:
    """Yield the positions of all shards in C order, the order in which they are written."""
    return itertools.product(*map(range, spec.shard_grid))


def shard_key(spec: DatasetSpec, shard: Coordinates) -> str:
    """Return the key of a shard under the target."""
    return f"{spec.key}/{stored_shards.shard_key(shard)}"


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

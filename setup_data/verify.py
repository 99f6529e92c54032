"""Verification: every index and every chunk's checksums against the manifest, chunks against the truth."""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import google_crc32c
import msgspec
import numpy as np
import numpy.typing as npt
import obstore
from obstore.exceptions import NotFoundError, NotSupportedError
from obstore.store import ObjectStore

from harness.datasets.manifest import DatasetSpec, Manifest, read
from harness.datasets.shards import CRC_NBYTES
from setup_data.encode import (
    Codecs,
    Coordinates,
    Index,
    encode_index,
    index_nbytes,
    layout,
    shard_key,
    shards,
    stored_order,
    zarr_json,
)
from setup_data.field import Field

_SAMPLE = 256
"""Chunks compared with the truth unless all are."""

_GROUP_NBYTES = 16 << 20
"""Neighbouring chunks are fetched together up to this size."""

_THREADS = 8


class BadChunk(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that does not verify."""

    chunk: Coordinates
    """Position in the array's chunk grid."""
    key: str
    """Key of its shard."""
    reason: str


class Report(msgspec.Struct, kw_only=True):
    """What verification found in one dataset."""

    dataset: str
    shards: int
    chunks: int
    truth_chunks: int
    """How many chunks were compared with the recomputed field."""
    bad_chunks: int
    first_bad: BadChunk | None
    metadata_ok: bool
    """Whether ``zarr.json`` is what the manifest's spec demands."""
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the dataset verifies."""
        return self.metadata_ok and not self.bad_chunks

    def complaint(self) -> str:
        """Return one line that says what is wrong."""
        if self.first_bad is None:
            return f"{self.dataset} does not verify: its zarr.json is not the one its manifest demands"
        bad = self.first_bad
        return (
            f"{self.dataset} does not verify: chunk {'/'.join(map(str, bad.chunk))} ({bad.key}): {bad.reason}; "
            f"{self.bad_chunks} of {self.chunks} chunks are bad"
        )


def verify(
    store: ObjectStore,
    manifest: Manifest,
    *,
    all_truth: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> Report:
    """Verify a dataset.

    Parameters
    ----------
    store
        Root of the target.
    manifest
        The dataset's manifest.
    all_truth
        Compare every chunk with the recomputed field, not a seeded sample of 256.
    advance
        Told the decoded bytes of each verified shard.

    Raises
    ------
    obstore.exceptions.BaseError
        The store failed or refused.
    """
    spec = manifest.spec
    started = time.perf_counter()
    count = math.prod(spec.chunk_grid)
    truth = np.full(count, all_truth or count <= _SAMPLE)
    truth[np.random.default_rng(spec.seed).integers(count, size=_SAMPLE)] = True
    checker = _Checker(store, manifest, truth.reshape(spec.chunk_grid))
    bad_chunks, first_bad = 0, None
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for bad, first in _in_order(pool, checker.shard, shards(spec)):
                bad_chunks += bad
                first_bad = first_bad or first
                advance(spec.shard_nbytes)
        finally:
            pool.shutdown(cancel_futures=True)
    return Report(
        dataset=spec.key,
        shards=math.prod(spec.shard_grid),
        chunks=count,
        truth_chunks=int(truth.sum()),
        bad_chunks=bad_chunks,
        first_bad=first_bad,
        metadata_ok=read(store, f"{spec.key}/zarr.json") == zarr_json(spec),
        seconds=time.perf_counter() - started,
    )


class DamageError(Exception):
    """What is wrong with a chunk or a whole shard."""


@dataclass(frozen=True)
class _Checker:
    """Checks shards of one dataset, from any thread."""

    store: ObjectStore
    manifest: Manifest
    truth: npt.NDArray[np.bool_]
    """Which chunks to recompute; of the chunk grid's shape."""

    def shard(self, shard: Coordinates) -> tuple[int, BadChunk | None]:
        """Return how many chunks of a shard are bad, and the first of them in C order."""
        spec, key = self.manifest.spec, shard_key(self.manifest.spec, shard)
        bad: dict[int, str] = {}
        try:
            index = self._index(key)
        except DamageError as error:
            return len(stored_order(spec)), BadChunk(chunk=_position(spec, shard, 0), key=key, reason=str(error))
        codecs = Codecs(spec)
        for number, stored in self._chunks(key, index):
            try:
                self._check(codecs, _position(spec, shard, number), stored)
            except DamageError as error:
                bad[number] = str(error)
        if not bad:
            return 0, None
        first = min(bad)
        return len(bad), BadChunk(chunk=_position(spec, shard, first), key=key, reason=bad[first])

    def _tail(self, key: str, length: int) -> tuple[bytes, int]:
        """Return the last bytes of an object and its size, which has to be asked for where suffixes are not known."""
        try:
            result = obstore.get(self.store, key, options={"range": {"suffix": length}})
            return bytes(result.bytes()), result.meta["size"]
        except NotSupportedError:
            size = obstore.head(self.store, key)["size"]
            return bytes(obstore.get_range(self.store, key, start=max(0, size - length), end=size)), size

    def _index(self, key: str) -> Index:
        """Return the shard's index if it is sound: its own checksum, no gaps, the order that the spec names."""
        spec = self.manifest.spec
        length = index_nbytes(spec)
        try:
            tail, size = self._tail(key, length)
        except (NotFoundError, FileNotFoundError) as error:
            raise DamageError("its shard is missing") from error
        if len(tail) != length:
            raise DamageError("its shard is too short to hold an index")
        index: Index = np.frombuffer(tail[:-CRC_NBYTES], "<u8").astype(np.uint64).reshape(-1, 2)
        if encode_index(index) != tail:
            raise DamageError("its shard's index is damaged")
        if not np.array_equal(index, layout(spec, index[:, 1])) or int(index[:, 1].sum()) + length != size:
            raise DamageError(f"its shard's index is not in {spec.subchunk_order} order without gaps")
        return index

    def _chunks(self, key: str, index: Index) -> Iterator[tuple[int, bytes]]:
        """Yield number and stored bytes of each chunk in stored order, fetching neighbours together."""
        order = stored_order(self.manifest.spec)
        ends = index[order].sum(axis=1)
        first = 0
        while first < len(order):
            start = int(index[order[first], 0])
            fitting = int(np.searchsorted(ends, start + _GROUP_NBYTES, side="right"))
            after = max(first + 1, fitting)
            body = bytes(obstore.get_range(self.store, key, start=start, end=int(ends[after - 1])))
            for number in order[first:after].tolist():
                at = int(index[number, 0]) - start
                yield number, body[at : at + int(index[number, 1])]
            first = after

    def _check(self, codecs: Codecs, chunk: Coordinates, stored: bytes) -> None:
        spec = self.manifest.spec
        if google_crc32c.value(stored) != self.manifest.stored_crc32c[chunk]:
            raise DamageError("its stored bytes do not match the manifest")
        try:
            decoded = codecs.decode(stored)
        except Exception as error:  # whatever the codec's library raises
            raise DamageError(f"it cannot be decoded: {error}") from error
        if google_crc32c.value(decoded) != self.manifest.decoded_crc32c[chunk]:
            raise DamageError("its decoded bytes do not match the manifest")
        if self.truth[chunk]:
            start = tuple(a * b for a, b in zip(chunk, spec.chunk_shape, strict=True))
            values = Field(spec.seed, spec.dtype).box(start, spec.chunk_shape)
            if values.astype(codecs.dtype, copy=False).tobytes() != decoded:
                raise DamageError("it differs from the recomputed field")


def _in_order[T, R](pool: ThreadPoolExecutor, work: Callable[[T], R], items: Iterator[T]) -> Iterator[R]:
    """Yield the results in the order of `items`, which are taken up only as fast as they are done."""
    waiting = deque(pool.submit(work, item) for item in itertools.islice(items, 2 * _THREADS))
    while waiting:
        yield waiting.popleft().result()
        waiting.extend(pool.submit(work, item) for item in itertools.islice(items, 1))


def _position(spec: DatasetSpec, shard: Coordinates, number: int) -> Coordinates:
    """Return the position in the array's chunk grid of chunk `number` (C order) of a shard."""
    inside = np.unravel_index(number, spec.chunks_per_shard)
    return tuple(a * b + int(c) for a, b, c in zip(shard, spec.chunks_per_shard, inside, strict=True))

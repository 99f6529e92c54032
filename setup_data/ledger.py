"""What of a dataset is already written, kept beside it until it is finished, so that a killed run resumes.

Shards are taken in blocks. When all shards of a block are stored, a part object with their checksums is stored:
``demo/small.manifest.parts/000007`` for the eighth block of ``demo/small``. The object ``.../spec`` comes first
and says what is being written. All of them are removed when the dataset is finished.
"""

import math
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
import obstore
from obstore.store import ObjectStore

from harness.datasets.manifest import Crcs, DatasetSpec, Manifest, pack, read, unpack
from harness.errors import BadUseError
from setup_data.encode import Coordinates, EncodedShard, shards

_MAGIC = b"ZCB-PART"
_LEAST_BLOCK = 16 << 20
_MOST_BLOCKS = 1024


class Ledger:
    """The shards written so far and their checksums.

    Parameters
    ----------
    store
        Where the dataset is.
    spec
        The dataset.
    """

    def __init__(self, store: ObjectStore, spec: DatasetSpec) -> None:
        self._store = store
        self.spec = spec
        self._count = math.prod(spec.shard_grid)
        self._block = block_shards(spec)
        self.sizes: npt.NDArray[np.uint64] = np.zeros(self._count, np.uint64)
        """Stored bytes of each shard in C order; 0 is not written yet."""
        # One row a shard, one column a chunk of it: parts are slices of rows.
        self._stored: Crcs = np.zeros((self._count, math.prod(spec.chunks_per_shard)), np.uint32)
        self._decoded: Crcs = np.zeros_like(self._stored)

    @property
    def parts(self) -> str:
        """Key prefix of the part objects."""
        return f"{self.spec.key}{Manifest.SUFFIX}.parts"

    def begin(self) -> None:
        """Store what is being written, or take up what an interrupted run left.

        Raises
        ------
        BadUseError
            What was left is of another spec.
        """
        left = read(self._store, f"{self.parts}/spec")
        mine = msgspec.json.encode(self.spec)
        if left is None:
            obstore.put(self._store, f"{self.parts}/spec", mine)
        elif left != mine:
            raise BadUseError(
                f"{self.spec.key} was begun with another shape, codec, order or seed: "
                "finish that with its own values, or replace it with --overwrite"
            )
        else:
            for key in self._keys():
                self._take_up(key)

    def record(self, number: int, written: EncodedShard) -> bytes | None:
        """Note that shard `number` is stored; return its block's part if that is now complete."""
        self.sizes[number] = written.nbytes
        self._stored[number] = written.stored_crc32c
        self._decoded[number] = written.decoded_crc32c
        rows = self._rows(number // self._block)
        if not self.sizes[rows].all():
            return None
        header = msgspec.json.encode({"block": number // self._block, "spec": self.spec})
        arrays = (self.sizes[rows].astype("<u8"), self._stored[rows].astype("<u4"), self._decoded[rows].astype("<u4"))
        return pack(_MAGIC, header, *(array.tobytes() for array in arrays))

    def keep(self, number: int, written: EncodedShard) -> None:
        """Note that shard `number` is stored, and store its block's part if that is now complete."""
        part = self.record(number, written)
        if part is not None:
            obstore.put(self._store, self.part_key(number), part)

    def part_key(self, number: int) -> str:
        """Return the key of the part that shard `number` belongs to."""
        return f"{self.parts}/{number // self._block:06d}"

    def manifest(self) -> Manifest:
        """Return the manifest of the finished dataset."""
        return Manifest(
            spec=self.spec,
            stored_crc32c=_by_chunk(self.spec, self._stored),
            decoded_crc32c=_by_chunk(self.spec, self._decoded),
        )

    def remaining(self) -> Iterator[tuple[int, Coordinates]]:
        """Yield number and position of each shard that is not written yet."""
        return ((number, shard) for number, shard in enumerate(shards(self.spec)) if not self.sizes[number])

    def remove(self) -> None:
        """Remove the part objects."""
        keys = self._keys()
        if keys:
            obstore.delete(self._store, keys)

    def _keys(self) -> list[str]:
        return [meta["path"] for meta in obstore.list_with_delimiter(self._store, f"{self.parts}/")["objects"]]

    def _rows(self, block: int) -> slice:
        return slice(block * self._block, min((block + 1) * self._block, self._count))

    def _take_up(self, key: str) -> None:
        """Take over one part; what is none or is damaged counts for nothing, its shards are written again."""
        try:
            header, body = unpack(_MAGIC, read(self._store, key) or b"", what="part")
            block = int(key.rpartition("/")[2])
        except (BadUseError, ValueError):
            return
        rows = self._rows(block)
        sizes, crcs = self.sizes[rows], self._stored[rows]
        expected = sizes.nbytes + 2 * crcs.nbytes
        if header != msgspec.json.encode({"block": block, "spec": self.spec}) or len(body) != expected:
            return
        sizes[:] = np.frombuffer(body, "<u8", len(sizes))
        both = np.frombuffer(body, "<u4", offset=sizes.nbytes).reshape(2, *crcs.shape)
        crcs[:], self._decoded[rows] = both


def block_shards(spec: DatasetSpec) -> int:
    """Return how many shards share a part: 16 MiB of them, or more so that there are at most 1024 parts."""
    nbytes = max(_LEAST_BLOCK, -(-spec.nbytes // _MOST_BLOCKS))
    return -(-nbytes // spec.shard_nbytes)


def _by_chunk(spec: DatasetSpec, rows: Crcs) -> Crcs:
    """Rearrange a row per shard into the array's chunk grid."""
    dimensions = len(spec.shape)
    axes = [axis for pair in zip(range(dimensions), range(dimensions, 2 * dimensions), strict=True) for axis in pair]
    return rows.reshape(spec.shard_grid + spec.chunks_per_shard).transpose(axes).reshape(spec.chunk_grid)

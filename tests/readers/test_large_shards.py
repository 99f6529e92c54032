"""A shard of more than 4 GiB: offsets beyond 32 bits, in an object that is made up as it is asked for."""

import google_crc32c
import numpy as np
import pytest

from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth, checksums
from studies.grid import OF_ARRAYS, readers
from studies.stored import encoded
from tests.support import origin

OFFSETS = (64, (1 << 32) + 64, (1 << 33) + 10)
"""Of the chunks that are stored; the fourth is not."""
MISSING = 2**64 - 1
VALUES = np.arange(64, dtype="<u2").reshape(4, 16)
DOCUMENT = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 16],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 16]}},
    "chunk_key_encoding": {"name": "default"},
    "fill_value": 0,
    "codecs": [
        {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [1, 16],
                "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            },
        }
    ],
    "attributes": {},
}


class Sparse:
    """Bytes that are zero but for a few places."""

    def __init__(self, places):
        self._places = places
        self._size = max(begin + len(body) for begin, body in places.items())

    def __len__(self):
        return self._size

    def __getitem__(self, asked):
        begin, end, _ = asked.indices(self._size)
        assert end - begin < 1 << 24, "nobody is to fetch the whole shard for two chunks of it"
        found = bytearray(end - begin)
        for at, body in self._places.items():
            for number, one in enumerate(body, at - begin):
                if 0 <= number < len(found):
                    found[number] = one
        return bytes(found)


def shard():
    chunks = {offset: VALUES[number].tobytes() for number, offset in enumerate(OFFSETS)}
    entries = [[offset, 32] for offset in OFFSETS] + [[MISSING, MISSING]]
    index = np.array(entries, "<u8").tobytes()
    return Sparse(chunks | {OFFSETS[-1] + 100: index + google_crc32c.value(index).to_bytes(4, "little")})


@pytest.mark.usefixtures("rust_reader")
def test_chunks_beyond_four_gibibytes_are_read_by_everyone():
    def by_numpy(work):
        arrays = [VALUES[tuple(slice(*axis) for axis in read)] for read in work.reads]
        return Truth(reads_crc32c=checksums(work.array, work.reads, arrays), agreed_by=("numpy",))

    place = origin.Origin(objects={"/a.zarr/zarr.json": encoded(DOCUMENT), "/a.zarr/c/0/0": shard()})
    with origin.serving(place), readers() as everyone:
        target = resolve(f"{place.address}/a.zarr")
        few = Parameters(chunks=2, gap=1)
        work = create_workload("chunks_of_one_shard", target, parameters=few, in_flight=4, agree=by_numpy)
        assert work.reads == (((0, 3, 2), (0, 16, 1)),)
        assert work.gap_bytes == (OFFSETS[2] - OFFSETS[0] - 32,)
        assert {name: everyone.outcome(name, work) for name in OF_ARRAYS} == dict.fromkeys(OF_ARRAYS, ("right", ""))

"""Shard indexes: believed as far as the shard bears them out."""

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.shards import MISSING, ShardIndex, index_nbytes, parse_index
from harness.errors import MeasurementError
from tests.support.mutations import fuzzed, read_or_refused

GRID = (2, 2)
OBJECT_NBYTES = 200


def stored(entries):
    body = np.array(entries, "<u8").tobytes()
    return body + google_crc32c.value(body).to_bytes(4, "little")


HONEST = [[0, 30], [30, 30], [int(MISSING), int(MISSING)], [60, 72]]


def test_what_is_stored_and_what_is_not():
    index = parse_index(stored(HONEST), GRID, OBJECT_NBYTES)
    assert index.offsets.tolist() == [[0, 30], [int(MISSING), 60]]
    assert (index.lengths[index.offsets != MISSING].tolist(), index.object_nbytes) == ([30, 30, 72], OBJECT_NBYTES)


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("checksum", [True, False])
def test_an_index_of_either_byte_order_with_a_checksum_and_without(endian, checksum):
    body = np.array(HONEST, "<u8" if endian == "little" else ">u8").tobytes()
    crc = google_crc32c.value(body).to_bytes(4, "little") if checksum else b""
    told = {"checksum": checksum, "endian": endian}
    index = parse_index(body + crc, GRID, OBJECT_NBYTES, **told)
    assert index.offsets.tolist() == [[0, 30], [int(MISSING), 60]]
    assert index_nbytes(GRID, checksum=checksum) == len(body + crc)
    with pytest.raises(MeasurementError, match="wrong length or checksum"):
        parse_index(body + crc, GRID, OBJECT_NBYTES, checksum=not checksum, endian=endian)


def test_what_stands_for_an_index_of_an_object_and_of_none():
    whole, nothing = ShardIndex.of_object(7, 2), ShardIndex.of_nothing(GRID)
    assert (whole.offsets.tolist(), whole.lengths.tolist(), whole.object_nbytes) == ([[0]], [[7]], 7)
    assert bool((nothing.offsets == MISSING).all())
    assert nothing.object_nbytes == 0


@pytest.mark.parametrize(
    "entry",
    [
        [0, 30 | 1 << 33],
        [0, 30 | 1 << 63],
        [1 << 40, 30],
        [171, 30],
        [5, int(MISSING)],
        [int(MISSING), 5],
        [2**63, 2**63],
    ],
)
@pytest.mark.parametrize("object_nbytes", [OBJECT_NBYTES, None])
def test_bytes_beyond_the_shard_are_refused(entry, object_nbytes):
    entries = [*HONEST[:3], entry]
    if object_nbytes is None and max(entry) < 1 << 60:
        assert parse_index(stored(entries), GRID).offsets[1, 1] == entry[0]
        return
    with pytest.raises(MeasurementError, match="names bytes beyond its shard"):
        parse_index(stored(entries), GRID, object_nbytes)


WORDS = st.integers(0, 250) | st.just(int(MISSING)) | st.integers(0, 2**64 - 1)


@fuzzed
@given(
    data=st.lists(st.tuples(WORDS, WORDS), min_size=4, max_size=4).map(stored)
    | st.binary(max_size=2 * index_nbytes(GRID))
)
def test_any_bytes_are_spans_of_the_shard_or_refused(data):
    index = read_or_refused(lambda body: parse_index(body, GRID, OBJECT_NBYTES), data)
    if index is not None:
        is_stored = index.offsets != MISSING
        ends = index.offsets[is_stored].astype(object) + index.lengths[is_stored].astype(object)
        assert all(end <= OBJECT_NBYTES for end in ends)

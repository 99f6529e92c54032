"""Which chunks a pattern wants, without any store."""

import collections
import itertools
import math

import numpy as np
import pytest

from harness.datasets.array import ArrayInfo
from harness.datasets.manifest import DatasetSpec
from harness.errors import BadUseError
from harness.workload.patterns import PATTERNS, Parameters, pattern, selection_shape
from harness.workload.placement import StoredShard
from harness.workload.selections import pieces
from setup_data.presets import specs

SPEC = DatasetSpec(
    preset="custom",
    name="small",
    shape=(128, 64, 96),
    chunk_shape=(1, 16, 16),
    shard_shape=(64, 16, 16),
    dtype="uint16",
    codec="zstd",
    subchunk_order="c",
    seed=0,
)


@pytest.mark.parametrize("gap", [0, 1, 3, 15])
def test_one_shard_leaves_exactly_the_gap_between_chunks(gap):
    ((time, *space),) = pattern("chunks_of_one_shard").selections(SPEC, Parameters(gap=gap))
    steps = list(range(*time))
    assert len(steps) == 4
    assert {b - a - 1 for a, b in itertools.pairwise(steps)} == {gap}
    assert steps[-1] < SPEC.shard_shape[0]
    assert space == [(0, 16, 1), (0, 16, 1)]


@pytest.mark.parametrize(("shards", "block"), [(1, (1, 1)), (4, (2, 2)), (6, (2, 3)), (24, (4, 6)), (3, (1, 3))])
def test_many_shards_form_a_block_as_square_as_possible(shards, block):
    ((_, y, x),) = pattern("chunks_of_many_shards").selections(SPEC, Parameters(shards=shards))
    assert sorted((y[1] // 16, x[1] // 16)) == sorted(block)
    assert y[1] <= 64
    assert x[1] <= 96


def test_whole_array_selects_every_element():
    (read,) = pattern("whole_array").selections(SPEC, Parameters())
    assert selection_shape(read) == SPEC.shape


@pytest.mark.parametrize(
    ("name", "asked", "complaint"),
    [
        ("chunks_of_one_shard", Parameters(gap=21), "do not fit"),
        ("chunks_of_one_shard", Parameters(gap=-1), "gap must be 0 or more"),
        ("chunks_of_one_shard", Parameters(chunks=0), "chunks must be at least 1"),
        ("chunks_of_one_shard", Parameters(shards=4), "no parameter 'shards'"),
        ("chunks_of_many_shards", Parameters(shards=25), "do not form a block"),
        ("chunks_of_many_shards", Parameters(shards=7), "do not form a block"),
        ("whole_array", Parameters(gap=1), "no parameter 'gap'"),
    ],
)
def test_a_parameter_that_cannot_be_met_is_refused(name, asked, complaint):
    with pytest.raises(BadUseError, match=complaint):
        pattern(name).selections(SPEC, asked)


def test_an_unknown_pattern_lists_the_choices():
    with pytest.raises(BadUseError, match="whole_array, chunks_of_one_shard, chunks_of_many_shards"):
        pattern("nope")


def array(shape, chunks, shards):
    return ArrayInfo(
        key="a",
        shape=shape,
        chunk_shape=chunks,
        shard_shape=shards,
        dtype="uint16",
        codec="zstd",
        subchunk_order="unknown",
    )


def ranks_of(read, spec, shard):
    """Where the chunks that a selection touches stand in the order of their offsets."""
    inside = [spec.place(piece.chunk) for piece in pieces(read, spec.chunk_shape)]
    assert {at for at, _ in inside} == {shard.at}
    return sorted(shard.ranks[int(np.ravel_multi_index(place, spec.chunks_per_shard))] for _, place in inside)


@pytest.mark.parametrize("gap", [0, 1, 3])
@pytest.mark.parametrize(
    ("shape", "chunks", "shards"),
    [
        ((64, 64), (4, 4), (16, 64)),  # C order: neighbours stand along the last axis
        ((64, 64, 64), (2, 32, 32), (64, 32, 32)),  # long chunks: one element of each is wanted
        ((10, 70), (4, 4), (16, 128)),  # the array ends within the shard
    ],
)
def test_a_shard_of_any_shape_has_exactly_the_gap_between_chunks_where_its_order_allows_it(shape, chunks, shards, gap):
    spec = array(shape, chunks, shards)
    shard = StoredShard((0,) * len(shape), range(math.prod(spec.chunks_per_shard)))
    (read,) = pattern("chunks_of_one_shard").selections(spec, Parameters(gap=gap), lambda: shard)
    found = ranks_of(read, spec, shard)
    assert {b - a - 1 for a, b in itertools.pairwise(found)} == {gap}
    assert len(found) == 4
    assert all(range(*axis)[-1] < size for axis, size in zip(read, shape, strict=True))


def test_chunks_come_by_the_order_of_their_offsets_and_from_those_that_are_stored():
    spec = array((8, 8), (1, 1), (4, 4))
    ranks = [-1, *range(14, -1, -1)]  # the corner is not stored, the others stand in reverse order
    shard = StoredShard((1, 0), ranks)
    (read,) = pattern("chunks_of_one_shard").selections(spec, Parameters(chunks=2, gap=1), lambda: shard)
    first, second = ranks_of(read, spec, shard)
    assert second - first == 2


def test_chunks_that_no_selection_can_want_with_the_gap_come_as_near_to_it_as_can_be():
    spec = array((8, 8), (1, 1), (8, 8))
    morton = sorted(
        itertools.product(range(8), range(8)),
        key=lambda place: [(place[0] >> bit & 1, place[1] >> bit & 1) for bit in (2, 1, 0)],
    )
    ranks = [morton.index(place) for place in itertools.product(range(8), range(8))]
    shard = StoredShard((0, 0), ranks)
    (read,) = pattern("chunks_of_one_shard").selections(spec, Parameters(chunks=4, gap=3), lambda: shard)
    assert {b - a - 1 for a, b in itertools.pairwise(ranks_of(read, spec, shard))} == {3}
    (read,) = pattern("chunks_of_one_shard").selections(spec, Parameters(chunks=4, gap=1), lambda: shard)
    assert len(ranks_of(read, spec, shard)) == 4


def test_a_shard_with_too_few_stored_chunks_is_refused():
    shard = StoredShard((0, 0), [0, 1, 2, -1])
    with pytest.raises(BadUseError, match="do not fit into a shard of 3 stored chunks"):
        pattern("chunks_of_one_shard").selections(array((2, 2), (1, 1), (2, 2)), Parameters(), lambda: shard)


def test_every_pattern_stays_inside_the_array():
    (gem3,) = specs("headline")
    for name, rule in PATTERNS.items():
        spec = gem3 if name == "headline_3004" else SPEC
        for read in rule.selections(spec, Parameters()):
            assert all(range(*axis)[-1] < size for axis, size in zip(read, spec.shape, strict=True))
            assert math.prod(selection_shape(read)) > 0


def test_the_headline_reads_the_published_region_of_the_published_chunks():
    (spec,) = specs("headline")
    published = {"chunks": (1, 7, 50, 36, 36), "shards": (1, 7, 50, 288, 288)}
    assert {"chunks": spec.chunk_shape, "shards": spec.shard_shape} == published
    assert (math.prod(spec.chunks_per_shard), spec.chunk_nbytes) == (64, 1_814_400)
    reads = pattern("headline_3004").selections(spec, Parameters())
    assert len(reads) == 11
    assert len(set(reads)) == 1
    # Latitudes 20 to 55 and longitudes -130 to -60 of a 0.25 degree grid from (-90, -180), both ends included; the
    # dataset's corner is that of the second row of shards.
    rows, columns = range(*reads[0][3]), range(*reads[0][4])
    assert [-90 + (288 + row) * 0.25 for row in (rows[0], rows[-1])] == [20, 55]
    assert [-180 + column * 0.25 for column in (columns[0], columns[-1])] == [-130, -60]
    chunks = [piece.chunk for piece in pieces(reads[0], spec.chunk_shape)]
    shards = collections.Counter((row // 8, column // 8) for *_, row, column in chunks)
    assert shards == {(0, 0): 12, (0, 1): 24, (1, 0): 3, (1, 1): 6}


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (Parameters(reads=0), "reads must be at least 1"),
        (Parameters(reads=100_001), "reads must be at most 100000"),
        (Parameters(crop=(1,)), "no parameter 'crop'"),
    ],
)
def test_a_headline_that_cannot_be_read_is_refused(asked, complaint):
    (spec,) = specs("headline")
    with pytest.raises(BadUseError, match=complaint):
        pattern("headline_3004").selections(spec, asked)
    with pytest.raises(BadUseError, match="does not suit this pattern: it reads headline/gem3"):
        pattern("headline_3004").selections(SPEC, Parameters())

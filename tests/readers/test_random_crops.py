"""Crops at any position: where they lie, what they must hold, and that a wrong element never becomes a figure."""

import collections
import itertools

import google_crc32c
import msgspec
import numpy as np
import obstore
import pytest
import zarr
from zarr.storage import ObjectStore

from harness.datasets import manifest
from harness.datasets.indexes import read_indexes
from harness.datasets.manifest import DatasetSpec
from harness.datasets.shards import MISSING
from harness.errors import BadUseError, MeasurementError
from harness.measure.conductor import Conductor, Plan
from harness.readers import benchmarked, reader_class
from harness.results.sample import NETWORK_LIMIT
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import expected
from harness.workload import model as workloads
from harness.workload import truth as truths
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters, pattern, selection_shape
from harness.workload.selections import covers_whole_chunks, pieces
from setup_data import presets
from setup_data.field import Field
from tests.support.data import create

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
CROPS = 6
"""Of one element each, where reads under way are counted: as many as two turns of three take."""
HOLE = ["--shape", "16,32,32", "--chunks", "2,16,16", "--shards", "16,32,32", "--order", "morton"]


@pytest.fixture(scope="module")
def target(embedded_store):
    create("--preset", "tiny")
    for dtype, codec in (("float32", "none"), ("int16", "blosc-lz4"), ("uint8", "zstd")):
        create("--name", f"crops-{dtype}", *HOLE, "--dtype", dtype, "--codec", codec, "--seed", "9")
    return resolve("embedded")


def crops(spec=SPEC, **asked):
    return pattern("random_crops").selections(spec, Parameters(**asked))


def starts(reads):
    return np.array([[axis[0] for axis in read] for read in reads])


def truth_of(spec, read):
    """Return what a read must hold by the field's formula alone."""
    start = tuple(axis[0] for axis in read)
    return Field(spec.seed, spec.dtype).box(start, selection_shape(read))


# Where crops lie.


def test_a_seed_decides_the_crops_and_they_are_the_same_for_ever():
    reads, again, others = (crops(crop=(4, 10, 10), crops=20, seed=seed) for seed in (5, 5, 6))
    assert reads == again
    assert reads != others
    # Written down, so that another version of Python or numpy cannot change them unseen.
    assert starts(reads[:3]).tolist() == [[77, 40, 69], [117, 40, 80], [3, 25, 82]]


def test_more_crops_begin_with_the_same_ones():
    more, fewer = (crops(crop=(1, 8, 8), crops=count) for count in (50, 20))
    assert more[:20] == fewer


@pytest.mark.parametrize("crop", [(1, 1, 1), (4, 10, 10), (128, 64, 96), (3, 64, 1)])
def test_crops_have_their_shape_and_stay_inside(crop):
    for read in crops(crop=crop, crops=200):
        assert selection_shape(read) == crop
        assert all(begin >= 0 and end <= size for (begin, end, _), size in zip(read, SPEC.shape, strict=True))


def test_every_position_is_as_likely_the_last_ones_too():
    crop, count = (121, 57, 90), 5600
    found = starts(crops(crop=crop, crops=count))
    for axis, possible in enumerate([8, 8, 7]):
        counts = np.bincount(found[:, axis], minlength=possible)
        assert len(counts) == possible
        expected = count / possible
        # Chi squared, one in a million to fail by chance for a fair generator; the seed is fixed.
        assert ((counts - expected) ** 2 / expected).sum() < 45
    pairs = collections.Counter(map(tuple, found[:, :2].tolist()))
    assert len(pairs) == 64  # axes are drawn apart from each other


def test_most_crops_start_off_the_chunk_grid():
    aligned = sum(covers_whole_chunks(read, SPEC.chunk_shape) for read in crops(crop=(1, 16, 16), crops=256))
    assert aligned < 10  # 1 in 256 expected


def test_without_a_shape_a_crop_is_as_large_as_a_chunk():
    reads = crops()
    assert len(reads) == 64
    assert {selection_shape(read) for read in reads} == {SPEC.chunk_shape}


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"crop": (129, 1, 1)}, "a crop of 129x1x1 is larger than 'custom/small', which is 128x64x96"),
        ({"crop": (1, 1)}, "a crop of 1x1 has 2 axes, 'custom/small' has 3"),
        ({"crop": (1, 0, 4)}, "a crop of 1x0x4 has a length below 1"),
        ({"crops": 0}, "crops must be at least 1, not 0"),
        ({"crops": 100_001}, "crops must be at most 100000"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"concurrent_reads": 0}, "concurrent_reads must be at least 1"),
        ({"gap": 1}, "no parameter 'gap'"),
        ({"reads": 1}, "no parameter 'reads'"),
    ],
)
def test_crops_that_cannot_be_made_are_refused(asked, complaint):
    with pytest.raises(BadUseError, match=complaint):
        crops(**asked)


# Which part of which chunk lands where.


@pytest.mark.parametrize(
    "read",
    [
        ((0, 8, 1), (0, 32, 1)),
        ((1, 7, 1), (3, 30, 1)),
        ((0, 8, 3), (5, 32, 7)),
        ((7, 8, 1), (31, 32, 1)),
        ((2, 8, 5), (0, 32, 31)),
    ],
)
def test_pieces_put_a_selection_together(read):
    chunk_shape = (2, 5)
    whole = np.arange(8 * 35).reshape(8, 35)
    wanted = whole[tuple(slice(*axis) for axis in read)]
    got = np.full(wanted.shape, -1)
    touched = []
    for chunk, in_chunk, in_read in pieces(read, chunk_shape):
        corner = [slice(c * n, (c + 1) * n) for c, n in zip(chunk, chunk_shape, strict=True)]
        assert (got[in_read] == -1).all()
        got[in_read] = whole[tuple(corner)][in_chunk]
        touched.append(chunk)
    assert np.array_equal(got, wanted)
    assert touched == sorted(set(touched))


@pytest.mark.parametrize(
    ("read", "whole"),
    [
        (((0, 8, 1), (5, 15, 1)), True),
        (((0, 8, 1), (5, 14, 1)), False),
        (((0, 8, 1), (4, 15, 1)), False),
        (((1, 8, 3), (0, 5, 1)), True),
        (((0, 8, 1), (0, 10, 2)), False),
    ],
)
def test_a_selection_covers_whole_chunks_or_says_that_it_does_not(read, whole):
    assert covers_whole_chunks(read, (1, 5)) is whole


# What they must hold.


@pytest.mark.parametrize("dataset", ["tiny/small", "custom/crops-float32", "custom/crops-int16", "custom/crops-uint8"])
def test_the_truth_of_crops_is_the_field_and_what_zarr_reads(target, dataset):
    made = create_workload(
        "random_crops", target, dataset=dataset, parameters=Parameters(crop=(5, 11, 13), crops=12, seed=3)
    )
    assert made.truth.decoded_crc32c is None
    (spec,) = [s for s in (*presets.specs("tiny"), *map(_custom, ("float32", "int16", "uint8"))) if s.key == dataset]
    expected = [truth_of(spec, read) for read in made.reads]
    workloads.verify(made, expected)
    array = zarr.open_array(ObjectStore(open_store(target, prefix=dataset), read_only=True), mode="r")
    got = [array[tuple(slice(*axis) for axis in read)] for read in made.reads]
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))
    workloads.verify(made, got)


def _custom(dtype):
    return DatasetSpec(
        preset="custom",
        name=f"crops-{dtype}",
        shape=(16, 32, 32),
        chunk_shape=(2, 16, 16),
        shard_shape=(16, 32, 32),
        dtype=dtype,
        codec="zstd",
        subchunk_order="morton",
        seed=9,
    )


def test_one_wrong_element_of_a_chunk_wanted_in_part_is_found(target):
    made = create_workload("random_crops", target, dataset="tiny/small", parameters=Parameters(crop=(2, 9, 9), crops=4))
    (spec,) = presets.specs("tiny", ("small",))
    good = [truth_of(spec, read) for read in made.reads]
    for number, corner in itertools.product(range(4), [(0, 0, 0), (1, 8, 8)]):
        bad = [array.copy() for array in good]
        bad[number][corner] ^= 1
        with pytest.raises(MeasurementError, match=rf"read {number} of tiny/small, \[\d+:\d+, .* is wrong"):
            workloads.verify(made, bad)
    with pytest.raises(MeasurementError, match="read 0 "):
        workloads.verify(made, [good[1], good[0], *good[2:]])
    with pytest.raises(MeasurementError, match="3 arrays returned for 4 reads"):
        workloads.verify(made, good[:3])
    with pytest.raises(MeasurementError, match="got int32"):
        workloads.verify(made, [good[0].astype("int32"), *good[1:]])


def test_a_chunk_that_is_not_its_manifests_makes_no_workload(target):
    create("--name", "crops-bad", *HOLE, "--codec", "none")
    store = open_store(target, prefix="custom/crops-bad")
    shard = bytearray(obstore.get(store, "c/0/0/0").bytes().to_bytes())
    shard[77] ^= 1
    obstore.put(store, "c/0/0/0", bytes(shard))
    asked = Parameters(crop=(1, 9, 9), crops=200)
    with pytest.raises(MeasurementError, match=r"chunk \(0, 0, 0\) of custom/crops-bad is damaged in the store"):
        create_workload("random_crops", target, dataset="custom/crops-bad", parameters=asked)


def test_a_chunk_that_is_not_stored_must_be_one_of_fill_values(target):
    """A missing chunk is zeros: right where the manifest says so, damage where it does not."""
    known = manifest.load(target, "custom/crops-int16")
    made = create_workload("random_crops", target, dataset="custom/crops-int16", parameters=Parameters(crop=(2, 9, 9)))
    indexes = read_indexes(target, made.array, [(0, 0, 0)])
    indexes[0, 0, 0].offsets[...] = MISSING
    with pytest.raises(MeasurementError, match="do not match the manifest"):
        expected.of_reads(target, known, made.array, made.reads, indexes)
    known.decoded_crc32c[...] = google_crc32c.value(bytes(2 * 16 * 16 * 2))
    empty = expected.of_reads(target, known, made.array, made.reads, indexes)
    zeros = [np.zeros((2, 9, 9), "int16") for _ in made.reads]
    truths.verify(empty, made.array, made.reads, zeros)


# The file.


def test_the_fields_survive_the_file_and_old_files_still_load(target):
    made = create_workload(
        "random_crops",
        target,
        dataset="tiny/small",
        parameters=Parameters(crop=(1, 9, 9), crops=3, concurrent_reads=2),
    )
    assert workloads.decode(workloads.encode(made)) == made
    fields = msgspec.json.decode(workloads.encode(made))
    assert fields["concurrent_reads"] == 2
    assert fields["parameters"] == {"crop": [1, 9, 9], "crops": 3, "concurrent_reads": 2}
    assert "decoded_crc32c" not in fields["truth"]
    assert made.label == "random_crops small crop=1x9x9 crops=3 concurrent_reads=2"
    whole = create_workload("whole_array", target, dataset="tiny/small")
    old = msgspec.json.decode(workloads.encode(whole))
    assert "concurrent_reads" not in old  # what was written before these fields is written as before
    assert set(old["truth"]) == {"decoded_crc32c"}
    assert workloads.decode(old).concurrent_reads == 1


@pytest.mark.parametrize("truth", [{}, {"decoded_crc32c": "", "reads_crc32c": ""}, {"decoded_crc32c": None}])
def test_a_truth_is_exactly_one_of_two(target, truth):
    fields = msgspec.to_builtins(create_workload("random_crops", target, dataset="tiny/small"))
    with pytest.raises(BadUseError, match="exactly one of decoded_crc32c, reads_crc32c and windows_crc32c"):
        workloads.decode(fields | {"truth": truth})
    with pytest.raises(BadUseError, match="not a workload file"):
        workloads.decode(fields | {"concurrent_reads": 0})


def test_crops_at_once_are_sixteen_unless_told_otherwise(target):
    made = create_workload("random_crops", target, dataset="tiny/small")
    assert (len(made.reads), made.concurrent_reads) == (64, 16)


# Readers.


def test_a_chunk_wanted_twice_counts_twice(target):
    asked = Parameters(crop=(64, 128, 256), crops=3)  # as large as the array: the same crop three times
    made = create_workload("random_crops", target, dataset="tiny/large", parameters=asked)
    once = create_workload("whole_array", target, dataset="tiny/large")
    assert made.wanted_chunks == 3 * once.wanted_chunks
    assert made.wanted_bytes == 3 * once.wanted_bytes
    assert made.wanted_shards == once.wanted_shards
    with Conductor(["zarr-python+obstore"], plan=Plan(samples=1, trials=1)) as conductor:
        rows = conductor.measure(made)
    assert [row.error for row in rows] == [None, None]
    fetched = {row.reader: row.samples[0].fetched_bytes for row in rows}
    assert fetched["zarr-python+obstore"] >= made.wanted_bytes  # the limit asks once for what is wanted at once
    assert once.wanted_bytes <= fetched[NETWORK_LIMIT] < made.wanted_bytes


@pytest.fixture(scope="module")
def under_way(store_binary, rust_reader, tmp_path_factory):
    """Rows of every reader by how many crops may be read at once; a crop of one element is one request after the other.

    One store and one process of each reader measure both.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path_factory.mktemp("slow")))
        lifecycle.start(StoreSettings(profile="s3"))  # its 20 ms let what is under way at once overlap
        try:
            create("--preset", "tiny", "--dataset", "small", "--as", "icechunk")
            with Conductor(benchmarked(), plan=Plan(samples=1, trials=1)) as conductor:
                return {at_once: conductor.measure(_crops_of_one_element(at_once)) for at_once in (1, 3)}
        finally:
            lifecycle.stop()


def _crops_of_one_element(at_once):
    asked = Parameters(crop=(1, 1, 1), crops=CROPS, concurrent_reads=at_once)
    return create_workload("random_crops", resolve("embedded"), dataset="tiny/small", parameters=asked)


@pytest.mark.parametrize("at_once", [1, 3])
def test_no_reader_has_more_reads_under_way_than_asked(under_way, at_once):
    """Requests in flight are reads under way."""
    rows = [row for row in under_way[at_once] if row.na is None]
    assert {row.reader: row.error for row in rows if row.error} == {}
    in_flight = {row.reader: row.samples[0].max_in_flight for row in rows}
    assert set(in_flight) >= {"zarr-python+obstore", NETWORK_LIMIT}
    assert {reader: seen for reader, seen in in_flight.items() if seen > at_once} == {}
    assert in_flight[NETWORK_LIMIT] == at_once
    for row in rows:  # an index and a chunk, or a shard in one request, for every crop of a turn
        requests = 1 if row.reader in (NETWORK_LIMIT, "zarrs-planned") else 2
        assert row.samples[0].seconds > CROPS / at_once * 0.020 * requests, row.reader


def test_the_network_limit_starts_reads_in_their_order(target, monkeypatch):
    asked = Parameters(crop=(2, 9, 9), crops=12, concurrent_reads=3)
    made = create_workload("random_crops", target, dataset="tiny/small", parameters=asked)
    reader = reader_class(NETWORK_LIMIT)()
    reader.open(made)
    order = []
    fetch = reader._fetch_shard

    async def watched(shard, held):
        order.append(next(i for i, shards in enumerate(reader._reads) if any(s is shard for s in shards)))
        return await fetch(shard, held)

    monkeypatch.setattr(reader, "_fetch_shard", watched)
    reader.read()
    reader.close()
    assert list(dict.fromkeys(order)) == list(range(12))

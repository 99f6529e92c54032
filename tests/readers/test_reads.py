"""Readers against the embedded store: what they fetch, byte by byte, and that a wrong array is never a figure."""

import functools
import itertools
import json

import google_crc32c
import msgspec
import numpy as np
import obstore
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.datasets.indexes import read_indexes
from harness.datasets.shards import index_nbytes
from harness.errors import BadUseError, MeasurementError, TooLargeError, UnsupportedError
from harness.measure.conductor import Conductor, Plan
from harness.readers import benchmarked, reader_class
from harness.readers.worker import timed_reads
from harness.results.sample import FLAG_NEW_CONNECTIONS, NETWORK_LIMIT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import files
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from harness.workload.selections import chunks_by_shard, wanted_chunks
from harness.workload.truth import Truth
from tests.support import origin
from tests.support.data import create

MIB = 1 << 20
ZARR_READERS = ["zarr-python+fsspec", "zarr-python+obstore"]
WIDE = ["--shape", "16,512,1024", "--chunks", "1,512,1024", "--shards", "16,512,1024", "--codec", "none"]
"""One shard of 16 chunks of exactly 1 MiB stored: a gap of one chunk is just within zarr-python's merge limit."""
FLAT = ["--shape", "16,128,128", "--chunks", "1,16,16", "--shards", "16,16,16"]
"""The 64 shards of tiny/small with a quarter of its chunks: some readers send two requests for each, one by one."""


@pytest.fixture(scope="session")
def target(embedded_store):
    create("--preset", "tiny", "--as", "icechunk")
    create("--name", "wide", *WIDE)
    create("--name", "flat", *FLAT, "--as", "icechunk")
    return resolve("embedded")


@pytest.fixture(scope="module")
def measure(target, rust_reader):
    """Measure every reader: reader -> row. Their processes are the same for all tests."""
    with Conductor(benchmarked(), plan=Plan()) as conductor:

        def run(workload, *, samples):
            conductor._plan = Plan(samples=samples, trials=1)
            return {row.reader: row for row in conductor.measure(workload)}

        yield run


@pytest.fixture
def fetch(target, control):
    """Execute a workload once on a warm reader and return what the store was asked for."""

    def run(name, workload, variant=""):
        reader = reader_class(name)()
        reader.open(workload)
        reader.use(variant)
        try:
            reader.read()
            control.mark("fetch", log=True)
            reader.check(workload, reader.read())
            return control.requests("fetch")
        finally:
            reader.close()

    return run


def wanted_ranges(workload):
    """Return the byte ranges of the wanted chunks by shard key, ascending."""
    wanted = [chunk for read in workload.reads for chunk in wanted_chunks(workload.array, read)]
    by_shard = chunks_by_shard(workload.array, wanted)
    indexes = read_indexes(workload.target, workload.array, list(by_shard))
    return {
        f"{workload.array.key}/c/{'/'.join(map(str, shard))}": sorted(
            (int(o), int(o + n)) for o, n in zip(indexes[shard].offsets[at], indexes[shard].lengths[at], strict=True)
        )
        for shard, at in by_shard.items()
    }


def merged(ranges, limit):
    whole = [ranges[0]]
    for begin, end in ranges[1:]:
        if begin - whole[-1][1] <= limit:
            whole[-1] = (whole[-1][0], end)
        else:
            whole.append((begin, end))
    return whole


@pytest.mark.parametrize("reader", ZARR_READERS)
@pytest.mark.parametrize(
    ("dataset", "gap", "gets"),
    [("tiny/small", 0, 1), ("tiny/small", 15, 1), ("custom/wide", 0, 1), ("custom/wide", 1, 1), ("custom/wide", 2, 4)],
)
def test_zarr_python_merges_gaps_up_to_one_mebibyte(target, fetch, reader, dataset, gap, gets):
    workload = create_workload("chunks_of_one_shard", target, dataset=dataset, parameters=Parameters(gap=gap))
    ((key, ranges),) = wanted_ranges(workload).items()
    asked = fetch(reader, workload)
    assert {request.key for request in asked} == {key}
    assert [request.kind for request in asked].count("get_index") == 1
    assert len(asked) == 1 + gets
    data_ranges = sorted(request.range for request in asked if request.kind == "get_data")
    assert data_ranges == merged(ranges, MIB)
    if dataset == "custom/wide":
        assert workload.gap_bytes == (gap * MIB,) * 3


@pytest.mark.parametrize("reader", ZARR_READERS)
def test_many_shards_cost_one_index_and_one_merged_range_each(target, fetch, reader):
    workload = create_workload("chunks_of_many_shards", target, dataset="tiny/small", parameters=Parameters(shards=16))
    wanted = wanted_ranges(workload)
    asked = fetch(reader, workload)
    size = index_nbytes(workload.array.chunks_per_shard)
    assert len(wanted) == 16
    index_ranges = {request.key: request.range for request in asked if request.kind == "get_index"}
    assert {key: end - begin for key, (begin, end) in index_ranges.items()} == dict.fromkeys(wanted, size)
    assert sorted((r.key, r.range) for r in asked if r.kind == "get_data") == sorted(
        (key, span) for key, ranges in wanted.items() for span in merged(ranges, MIB)
    )


def test_the_network_limit_fetches_what_its_plans_say(target, fetch):
    workload = create_workload("chunks_of_one_shard", target, dataset="tiny/small", parameters=Parameters(gap=3))
    ((_, ranges),) = wanted_ranges(workload).items()
    for plan, expected in (("exact", ranges), ("merged", merged(ranges, MIB))):
        asked = fetch(NETWORK_LIMIT, workload, plan)
        assert sorted(request.range for request in asked if request.kind == "get_data") == expected


@pytest.mark.parametrize(
    ("dataset", "pattern"),
    [
        ("custom/flat", "whole_array"),
        ("tiny/large", "whole_array"),
        *itertools.product(["tiny/small", "tiny/large"], ["chunks_of_one_shard", "chunks_of_many_shards"]),
    ],
)
def test_every_reader_returns_the_truth_and_counts_like_the_store(target, measure, pattern, dataset):
    # The conductor compares the reader's counts with the store's and fails the row where they differ.
    few = pattern != "whole_array"
    asked = Parameters(shards=4) if pattern == "chunks_of_many_shards" else Parameters(gap=1) if few else Parameters()
    workload = create_workload(pattern, target, dataset=dataset, parameters=asked)
    for row in measure(workload, samples=2 if few else 1).values():  # of a whole array some take seconds
        if pattern == "chunks_of_one_shard" and row.reader in ZARR_READERS:  # one request after the other
            assert [s.new_connections for s in row.samples] == [0, 0], row.reader
        assert (row.error, row.na) == (None, None), row.reader
        source = "reader" if reader_class(row.reader).counts_requests else "store"
        assert all(s.verified and s.requests_source == source and s.requests > 0 for s in row.samples), row.reader
        if row.reader != NETWORK_LIMIT:
            by_chunk = few and not reader_class(row.reader).strides
            assert {s.calls for s in row.samples} == {workload.wanted_chunks if by_chunk else 1}, row.reader
        assert all(s.fetched_bytes >= workload.wanted_bytes for s in row.samples)
        assert all(s.array_bytes == workload.array_bytes for s in row.samples)
        if (
            few and row.reader != NETWORK_LIMIT
        ):  # nothing is kept from one read to the next: neither an index nor a chunk
            assert len({(s.requests, s.index_requests, s.fetched_bytes) for s in row.samples}) == 1, row.reader
            for sample in row.samples:
                if row.reader == "zarrs-planned" and not sample.index_requests:  # small shards come whole
                    assert (sample.requests, sample.fetched_bytes) == (workload.wanted_shards, workload.object_bytes)
                else:
                    assert sample.index_requests >= workload.wanted_shards, row.reader
        # A busy machine can make a client open one more connection; then the sample has to say so.
        assert all((s.new_connections > 0) == (FLAG_NEW_CONNECTIONS in s.flags) for s in row.samples), row.reader


@pytest.mark.parametrize("name", ["zarr-python+obstore+fused", "zarrs-python+obstore"])
def test_a_pipeline_that_is_not_the_one_asked_for_is_not_measured(target, name, monkeypatch):
    from zarr.core.codec_pipeline import BatchedCodecPipeline

    from harness.readers import zarr_python

    class FellBack:
        class _async_array:  # noqa: N801 - zarr's name
            codec_pipeline = object.__new__(BatchedCodecPipeline)

    asked = getattr(reader_class(name), "pipeline", None) or "zarrs.ZarrsCodecPipeline"
    with pytest.raises(UnsupportedError, match="decodes with BatchedCodecPipeline, not with"):
        zarr_python.demand_pipeline(FellBack, asked)


@pytest.mark.parametrize("merges", [False, True])
def test_a_zarr_whose_store_merges_requests_itself_is_not_counted_by_its_get(target, control, monkeypatch, merges):
    import zarr.storage

    class Merging(zarr.storage.ObjectStore):
        """As zarr-python's documentation invites stores to be: with `get_ranges` of its own."""

        async def get_ranges(self, key, byte_ranges, *, prototype, **_limits):
            starts, ends = [asked.start for asked in byte_ranges], [asked.end for asked in byte_ranges]
            found = await obstore.get_ranges_async(self.store, key, starts=starts, ends=ends, coalesce=MIB)
            yield [(number, prototype.buffer.from_bytes(bytes(body))) for number, body in enumerate(found)]

    if merges:
        monkeypatch.setattr(zarr.storage, "ObjectStore", Merging)
    workload = create_workload("chunks_of_one_shard", target, dataset="small", parameters=Parameters(gap=1))
    reader = reader_class("zarr-python+obstore")()
    reader.open(workload)
    try:
        control.mark("merged")
        timed = timed_reads(reader, workload)
    finally:
        reader.close()
    assert control.since("merged").requests == 2
    if merges:
        assert timed.request_counts is None
    else:
        assert timed.request_counts.requests == 2


def test_a_damaged_chunk_fails_the_reader_instead_of_becoming_a_figure(target):
    create("--name", "damaged", *WIDE)
    store = open_store(target, prefix="custom/damaged")
    shard = bytearray(obstore.get(store, "c/0/0/0").bytes().to_bytes())
    shard[2 * MIB + 77] ^= 1
    obstore.put(store, "c/0/0/0", bytes(shard))
    workload = create_workload("chunks_of_one_shard", target, dataset="custom/damaged", parameters=Parameters(gap=1))
    with Conductor(ZARR_READERS, plan=Plan(samples=2)) as conductor:
        rows = {row.reader: row for row in conductor.measure(workload)}
    for reader in ZARR_READERS:
        assert "chunk (2, 0, 0) of custom/damaged is wrong" in rows[reader].error
        assert rows[reader].samples == []


def test_a_workload_survives_its_file_and_keeps_its_identity(target, tmp_path):
    made = create_workload("chunks_of_one_shard", target, dataset="tiny/small", parameters=Parameters(gap=3))
    (tmp_path / "w.json").write_bytes(workloads.encode(made))
    loaded = files.load(tmp_path / "w.json")
    assert loaded == made
    moved = workloads.decode(workloads.encode(made).replace(target.endpoint.encode(), b"http://127.0.0.1:1"))
    assert moved.digest == made.digest
    other = create_workload("chunks_of_one_shard", target, dataset="tiny/small", parameters=Parameters(gap=1))
    assert other.digest != made.digest


def test_verify_names_what_is_wrong(target):
    workload = create_workload("chunks_of_one_shard", target, dataset="tiny/small")
    reader = reader_class("zarr-python+obstore")()
    reader.open(workload)
    (array,) = reader.read()
    workloads.verify(workload, [array])
    for bad, complaint in [
        ([], "0 arrays returned for 1 reads"),
        ([array[:3]], "got uint16"),
        ([array.astype("int32")], "expected uint16"),
        ([array ^ 1], r"chunk \(0, 0, 0\)"),
    ]:
        with pytest.raises(MeasurementError, match=complaint):
            workloads.verify(workload, bad)


def test_an_array_too_large_for_the_memory_is_refused(target, monkeypatch):
    monkeypatch.setattr("harness.workload.model.os.sysconf", {"SC_PAGE_SIZE": MIB, "SC_PHYS_PAGES": 4}.__getitem__)
    with pytest.raises(BadUseError, match="more than a quarter"):
        create_workload("whole_array", target, dataset="tiny/small")


def sparse_shard(hole):
    """Return the objects of an array of 256 bytes in one shard of four chunks, `hole` bytes before the last of them."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [4, 4, 8]}}
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    settings = {"chunk_shape": [1, 4, 8], "codecs": [little], "index_codecs": [little, {"name": "crc32c"}]}
    described = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [4, 4, 8],
        "data_type": "uint16",
        "fill_value": 0,
        "chunk_grid": grid,
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "sharding_indexed", "configuration": settings}],
    }
    chunk = np.arange(32, dtype="<u2").tobytes()
    index = np.array([[0, 64], [64, 64], [128, 64], [192 + hole, 64]], "<u8").tobytes()
    checksum = google_crc32c.value(index).to_bytes(4, "little")
    body = 3 * chunk + bytes(hole) + chunk + index + checksum
    return {"/s.zarr/zarr.json": json.dumps(described).encode(), "/s.zarr/c/0/0/0": body}


@pytest.mark.parametrize(("hole", "fits"), [(0, True), (2 * MIB, False)])
def test_a_few_bytes_in_a_huge_object_are_refused_where_a_reader_would_fetch_all_of_it(monkeypatch, hole, fits):
    monkeypatch.setattr("harness.workload.model.os.sysconf", {"SC_PAGE_SIZE": MIB, "SC_PHYS_PAGES": 4}.__getitem__)
    nobody_asked = Truth(reads_crc32c="AAAAAA==")
    with origin.serving(origin.Origin(sparse_shard(hole))) as place:
        target = resolve(f"{place.address}/s.zarr")
        make = functools.partial(create_workload, target=target, agree=lambda _: nobody_asked)
        crop = make("random_crops", parameters=Parameters(crop=(1, 4, 8), crops=1))  # a chunk, which is fetched alone
        assert (crop.held_bytes, crop.array_bytes) == (64, 64)
        if fits:
            whole = make("whole_array")
            assert (whole.array_bytes, whole.held_bytes) == (256, len(place.objects["/s.zarr/c/0/0/0"]))
            return
        with pytest.raises(TooLargeError, match=r"the shards that are read whole take .* more than a quarter"):
            make("whole_array")
        large = msgspec.to_builtins(crop) | {"held_bytes": 2 * MIB}
        with pytest.raises(TooLargeError, match="the shards that are read whole take"):  # made on a larger machine
            workloads.decode(large)


@pytest.mark.parametrize(
    ("pattern", "asked", "repeats"),
    [
        ("whole_array", {}, False),
        ("chunks_of_one_shard", {"gap": 1}, False),
        ("random_crops", {"crop": (2, 20, 20), "crops": 200}, True),  # they overlap
    ],
)
def test_what_no_reader_can_do_without_is_what_different_chunks_are_stored_as(target, pattern, asked, repeats):
    work = create_workload(pattern, target, dataset="tiny/small", parameters=Parameters(**asked))
    assert 0 < work.least_bytes <= work.wanted_bytes
    assert (work.least_bytes < work.wanted_bytes) is repeats
    assert work.held_bytes > 0
    older = msgspec.structs.replace(work, least_bytes=0, held_bytes=0)
    assert (older.digest, workloads.decode(workloads.encode(older)).least_bytes) == (work.digest, 0)


def test_read_json_is_the_contract(target, tmp_path):
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(create_workload("chunks_of_one_shard", target, dataset="tiny/small")))
    done = CliRunner().invoke(zcb, ["read", "zarr-python+obstore", str(file), "--samples", "2", "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert (report["schema"], report["reader"], report["target"]) == (1, "zarr-python+obstore", "embedded:loopback")
    assert report["versions"]["zarr"]
    assert len(report["network_limit"]["seconds"]) == 4
    assert len(report["samples"]) == 2
    contract = (
        "seconds array_bytes calls requests index_requests head_requests retries requests_source fetched_bytes "
        "nic_rx_bytes nic_rx_packets cpu_seconds store_cpu_seconds peak_rss_bytes max_in_flight new_connections "
        "flags verified"
    )
    for sample in report["samples"]:
        assert set(contract.split()) <= sample.keys()
        assert sample["nic_rx_bytes"] is None  # lo counts both directions
        assert (sample["requests"], sample["index_requests"]) == (2, 1)


def test_several_readers_stand_side_by_side(target, tmp_path):
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(create_workload("chunks_of_one_shard", target, dataset="tiny/small")))
    names = ["zarr-python+obstore", "tensorstore"]
    done = CliRunner().invoke(zcb, ["read", ",".join(names), str(file), "--samples", "2"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    lines = [line.strip() for line in done.stdout.splitlines()]
    begin = next(number for number, line in enumerate(lines) if line.startswith("─")) + 1
    shown = [line.split() for line in lines[begin : lines.index("", begin)]]
    assert [row[0] for row in shown] == [*names, "network-limit"]
    assert all(len(row) >= 9 for row in shown)  # the reader and eight figures, none of them cut away

    done = CliRunner().invoke(zcb, ["read", ",".join(names), str(file), "--samples", "2", "--json"])
    reports = json.loads(done.stdout)
    assert [report["reader"] for report in reports] == names
    assert [len(report["samples"]) for report in reports] == [2, 2]


def limit_variants(workload):
    reader = reader_class(NETWORK_LIMIT)()
    reader.open(workload)
    try:
        return reader.variants()
    finally:
        reader.close()


def test_the_limit_tries_whole_shards_which_bring_their_index_along(target, fetch):
    workload = create_workload("chunks_of_many_shards", target, dataset="tiny/small", parameters=Parameters(shards=4))
    requests = fetch(NETWORK_LIMIT, workload, "whole")
    assert len(requests) == workload.wanted_shards == 4
    assert {request.kind for request in requests} == {"get_data"}
    assert sum(request.bytes for request in requests) == workload.object_bytes > workload.wanted_bytes
    assert limit_variants(workload) == ("exact", "merged", "whole")
    huge = msgspec.structs.replace(workload, object_bytes=1 << 30)
    assert "whole" not in limit_variants(huge)
    unknown = msgspec.structs.replace(workload, object_bytes=0)
    assert "whole" not in limit_variants(unknown)


@pytest.mark.parametrize("variant", ["exact", "merged", "whole"])
def test_the_limit_fetches_once_what_reads_want_at_the_same_moment(target, fetch, variant):
    asked = Parameters(crop=(64, 128, 256), crops=3, concurrent_reads=3)  # three times the whole array
    workload = create_workload("random_crops", target, dataset="tiny/large", parameters=asked)
    in_turn = fetch(NETWORK_LIMIT, msgspec.structs.replace(workload, concurrent_reads=1), variant)
    at_once, two = (
        fetch(NETWORK_LIMIT, msgspec.structs.replace(workload, concurrent_reads=n), variant) for n in (3, 2)
    )
    found = {(r.key, r.range) for r in in_turn}
    assert len(in_turn) == 3 * len(found)
    assert len(at_once) == len({(r.key, r.range) for r in at_once}) == len(found)
    assert len(found) <= len(two) < len(in_turn)  # the third begins when another ends, with what that leaves


def test_a_workload_knows_the_size_of_its_objects(target):
    workload = create_workload("whole_array", target, dataset="tiny/small")
    older = workloads.decode({k: v for k, v in msgspec.to_builtins(workload).items() if k != "object_bytes"})
    assert workload.object_bytes > workload.wanted_bytes
    assert (older.object_bytes, older.digest) == (0, workload.digest)

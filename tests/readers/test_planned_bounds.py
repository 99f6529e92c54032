"""What zarrs-planned holds at once: memory; by the store's log requests for data, and indexes just ahead of these."""

import itertools

import msgspec
import numpy as np
import obstore
import pytest
import zarr
from zarr.storage import ObjectStore

from harness.machine.cpu import cores
from harness.measure.process import WorkerProcess
from harness.readers.zarrs import ZarrsPlanned
from harness.store import lifecycle
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth, checksums
from tests.readers.test_zarrs_reader import Ranges
from tests.support.data import create
from tests.support.under_way import keep_to

MIB = 2**20
BUFFER_MIB = 16
BOUNDS = "custom/bounds"
BESIDE_MIB = 96
"""What the process takes beside its array and its buffer: programs, threads, holes in the allocator's memory."""
AHEAD_BYTES = 640 * 1024
"""What counts for each connection, of half of the buffer."""


class Narrow(ZarrsPlanned):
    """zarrs-planned that may hold 16 MiB of stored bytes."""

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--buffer-mib", str(BUFFER_MIB)]


@pytest.fixture
def store(own_state, rust_reader):
    """A store with service time, stopped with the test."""
    return lifecycle.start(StoreSettings(profile="s3"))


def written(shape, chunks, shards):
    asked = ["--shape", shape, "--chunks", chunks, "--shards", shards, "--name", BOUNDS.removeprefix("custom/")]
    create(*asked)
    return resolve("embedded")


def read(store, reader, workload):
    """Read twice, and return the second sample with the requests of it, as they came."""
    worker = WorkerProcess(reader)
    try:
        worker.open(workload, timeout=60)
        worker.require({"op": "sample", "discard": True}, timeout=120)
        with StoreControl(store.control) as control:
            control.mark("read", log=True)
            timed = worker.require({"op": "sample"}, timeout=120)["timed"]
            return timed, sorted(control.requests("read"), key=lambda request: request.received_ns)
    finally:
        worker.stop()


def most_bytes(requests):
    """Return the most bytes of requests that the store had received and not answered."""
    events = [(r.received_ns, r.bytes) for r in requests] + [(r.last_byte_ns, -r.bytes) for r in requests]
    return max(itertools.accumulate(size for _, size in sorted(events)))


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize(("in_flight", "whole"), [(20, True), (100, False)])
def test_an_array_of_600_mib_is_read_through_16(store, in_flight, whole):
    target = written("600,512,1024", "4,128,128", "40,256,256")
    workload = create_workload("whole_array", target, dataset=BOUNDS, in_flight=in_flight)
    assert workload.array_bytes == 600 * MIB
    timed, requests = read(store, Narrow, workload)
    assert timed["verified"]
    shards = workload.wanted_shards
    assert sum(r.kind == "get_index" for r in requests) == (0 if whole else shards)
    assert timed["request_counts"]["requests"] == len(requests) >= shards
    assert timed["request_counts"]["fetched_bytes"] == sum(r.bytes for r in requests) >= workload.wanted_bytes
    data = [r for r in requests if r.kind != "get_index"]
    assert keep_to(data, BUFFER_MIB * MIB // 2 // AHEAD_BYTES)
    assert most_bytes(data) > BUFFER_MIB * MIB  # room is held for what comes, not for what may
    assert timed["peak_rss_bytes"] - timed["array_bytes"] < (BUFFER_MIB + BESIDE_MIB) * MIB


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.skipif(cores() < 2, reason="one core fills alone")
def test_all_cores_fill_what_is_missing_of_one_shard(store):
    target = written("128,1024,1024", "1,256,256", "128,1024,1024")
    made = create_workload("whole_array", target, dataset=BOUNDS)
    obstore.delete(open_store(target, prefix=BOUNDS), "c/0/0/0")
    zeros = Truth(reads_crc32c=checksums(made.array, made.reads, [np.zeros(made.array.shape, "<u2")]))
    worker = WorkerProcess(ZarrsPlanned)
    try:
        worker.open(msgspec.structs.replace(made, truth=zeros), timeout=60)
        samples = [worker.require({"op": "sample"}, timeout=120)["timed"] for _ in range(5)]
    finally:
        worker.stop()
    assert all(timed["verified"] for timed in samples)
    assert max(timed["cpu_seconds"] / timed["seconds"] for timed in samples) > 1.1


@pytest.mark.alone
@pytest.mark.parametrize(("reader", "indexes"), [(ZarrsPlanned, 0), (Ranges, 4)])
def test_what_reads_under_way_at_once_want_is_fetched_once(own_state, rust_reader, reader, indexes):
    store = lifecycle.start(StoreSettings(profile="s3", first_byte_ms=500))  # within which all reads begin
    target = written("16,64,64", "2,16,16", "16,32,32")
    found = []
    for crops in (1, 4):  # each is the whole array
        asked = Parameters(crop=(16, 64, 64), crops=crops, concurrent_reads=crops)
        timed, requests = read(store, reader, create_workload("random_crops", target, parameters=asked, dataset=BOUNDS))
        assert timed["verified"]
        assert timed["request_counts"]["fetched_bytes"] == sum(r.bytes for r in requests)
        assert sum(r.kind == "get_index" for r in requests) == indexes
        found.append(sum(r.bytes for r in requests))
    assert found[0] == found[1]


class WithoutRoom(Ranges):
    """zarrs-planned that can keep no chunk of 1 MiB for other reads: half of its buffer is less."""

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--buffer-mib", "1"]


@pytest.mark.alone
@pytest.mark.parametrize(("reader", "is_kept"), [(Ranges, True), (WithoutRoom, False)])
def test_a_chunk_is_there_for_who_comes_while_a_read_uses_it(own_state, rust_reader, reader, is_kept):
    """Two at once, a request at a time: the third begins when the second has its chunk, long before the first ends."""
    store = lifecycle.start(StoreSettings(profile="s3", first_byte_ms=100))
    target = written("8,512,1024", "1,512,1024", "2,512,1024")
    made = create_workload("whole_array", target, dataset=BOUNDS, in_flight=1)
    whole = zarr.open_array(ObjectStore(open_store(target, prefix=BOUNDS), read_only=True), mode="r")[:]
    first_of_each_shard, chunk = ((0, 8, 2), (0, 512, 1), (0, 1024, 1)), ((0, 1, 1), (0, 512, 1), (0, 1024, 1))
    reads, arrays = (first_of_each_shard, chunk, chunk), [whole[::2], whole[:1], whole[:1]]
    work = msgspec.structs.replace(
        made,
        reads=reads,
        concurrent_reads=2,
        array_bytes=sum(array.nbytes for array in arrays),
        truth=Truth(reads_crc32c=checksums(made.array, reads, arrays)),
    )
    timed, requests = read(store, reader, work)
    assert timed["verified"]
    data = [(request.key, request.range) for request in requests if request.kind != "get_index"]
    assert len(set(data)) == 4
    assert len(data) == (4 if is_kept else 5)


@pytest.mark.parametrize("in_flight", [4, 32])
def test_indexes_come_just_ahead_of_their_data(store, in_flight):
    target = written("64,128,128", "1,16,16", "64,16,16")  # 64 shards of one request for data each
    workload = create_workload("chunks_of_many_shards", target, dataset=BOUNDS, parameters=Parameters(shards=32))
    assert workload.wanted_shards == 32
    _, requests = read(store, Ranges, msgspec.structs.replace(workload, in_flight=in_flight))
    kinds = [r.kind for r in requests]
    data_per_shard = kinds.count("get_data") // 32
    assert (kinds.count("get_index"), data_per_shard * 32) == (32, kinds.count("get_data"))
    asked = dict.fromkeys(kinds, 0)
    for kind in kinds:
        asked[kind] += 1
        begun = asked["get_data"] / data_per_shard
        assert asked["get_index"] <= begun + 2 * in_flight
    if in_flight == 32:  # all shards have a request at once
        assert kinds[:32] == ["get_index"] * 32
    else:
        last_index = len(kinds) - kinds[::-1].index("get_index")
        assert "get_data" in kinds[: last_index - 2 * in_flight]

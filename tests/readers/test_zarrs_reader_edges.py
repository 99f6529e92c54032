"""The Rust reader where it is rarely used: tiny parts, damage, other routes, credentials, several reads at once."""

import base64
import json
import os
import subprocess
import uuid

import google_crc32c
import msgspec
import numpy as np
import obstore
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from zarr.codecs import ZstdCodec
from zarr.storage import ObjectStore

from harness.measure.process import WorkerProcess
from harness.readers.zarrs import NetworkLimitRust, Zarrs, ZarrsPlanned
from harness.store import lifecycle
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings
from harness.targets.client import open_store
from harness.targets.target import Target
from tests.conftest import s3_client
from tests.readers.test_zarrs_reader import Ranges, cases, workload_of, write
from tests.support.under_way import keep_to

CASE = {
    "chunk": (2, 3),
    "shard": (4, 6),
    "shape": (9, 13),
    "reads": [((0, 9, 1), (0, 13, 1))],
    "dtype": "uint16",
    "codecs": "zstd",
    "endian": "little",
    "transposed": False,
    "index_at": "end",
    "outer": False,
    "holes": "none",
    "fill": 0,
    "seed": 1,
}


class TinyParts(Ranges):
    """Requests of at most 7 bytes: every chunk and every group comes in parts."""

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--part-bytes", "7", "--max-gap-bytes", "3"]


class Parts(Ranges):
    """Requests of at most 3000 bytes."""

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--part-bytes", "3000"]


class OneGroup(Ranges):
    """Every gap is bridged."""

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--max-gap-bytes", str(1 << 30)]


class Worker:
    """A worker that is expected to answer without an error."""

    def __init__(self, reader, **settings):
        self.process = WorkerProcess(reader)
        self.settings = {"settings": settings} if settings else {}

    def __call__(self, **request):
        answer = self.raw(**request)
        assert not answer.keys() & {"error", "na"}, answer
        return answer

    def raw(self, **request):
        return self.process.ask(request | (self.settings if request["op"] == "open" else {}), timeout=60)


@pytest.fixture
def worker(rust_reader):
    """Start workers that end with the test."""
    started = []

    def start(reader, **settings):
        started.append(Worker(reader, **settings))
        return started[-1]

    yield start
    for one in started:
        one.process.stop()


@pytest.fixture(scope="module")
def ways(rust_reader):
    by_shard = Worker(Zarrs, task_per_shard=True, shard_cache="shard")
    without = Worker(Zarrs, shard_cache="none")
    blocking = [Worker(Zarrs, sync_threads=3), Worker(Zarrs, sync_threads=3, task_per_shard=True, shard_cache="shard")]
    started = [by_shard, Worker(Zarrs, shard_cache="shard"), without, *blocking, Worker(TinyParts), Worker(OneGroup)]
    yield started
    for one in started:
        one.process.stop()


@pytest.fixture(scope="module")
def place(embedded_store, s3):
    """A bucket of the embedded store as a target."""
    name = f"edges-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return Target(
        name="edges", url=f"s3://{name}", endpoint=embedded_store.endpoint, region="us-east-1", anonymous=True
    )


def written(target, case=CASE):
    """Write the array of a case and return its key and the workload that reads it."""
    key = f"a/{uuid.uuid4().hex}"
    array = write(target, key, case)
    expected = [array[tuple(slice(*axis) for axis in read)] for read in case["reads"]]
    return key, workload_of(target, key, case, expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_however_requests_are_cut_the_arrays_are_the_same(place, ways, case):
    _, workload = written(place, case)
    for ask in ways:
        for in_flight in (workload["in_flight"], 1):  # with one, whole shards come whole
            ask(op="open", workload={**workload, "in_flight": in_flight})
            ask(op="sample")


@pytest.mark.parametrize("index_at", ["start", "end"])
@pytest.mark.parametrize(("in_flight", "gets"), [(2, 4), (3, 8)])
def test_whole_shards_come_whole_where_they_take_turns(place, worker, control, index_at, in_flight, gets):
    case = {**CASE, "shape": (8, 12), "reads": [((0, 8, 1), (0, 12, 1))], "index_at": index_at}
    _, workload = written(place, case)
    ask = worker(Ranges)
    ask(op="open", workload={**workload, "in_flight": in_flight})
    control.mark("whole")
    request_counts = ask(op="sample")["timed"]["request_counts"]
    assert request_counts["requests"] == control.since("whole").requests == gets


@pytest.mark.parametrize("index_at", ["start", "end"])
@pytest.mark.parametrize(("whole_bytes", "gets"), [(2 * 48, 2), (2 * 48 - 1, 4)])
def test_small_shards_come_whole_however_few_chunks_are_wanted(place, worker, control, index_at, whole_bytes, gets):
    # Of two shards of 48 bytes a chunk each.
    _, workload = written(place, {**CASE, "reads": [((0, 1, 1), (0, 12, 6))], "index_at": index_at})
    ask = worker(type("Whole", (Ranges,), {"whole_bytes": whole_bytes}))
    ask(op="open", workload=workload)
    control.mark("small")
    ask(op="sample")
    assert control.since("small").requests == gets


@pytest.mark.parametrize("index_at", ["start", "end"])
def test_a_shard_with_more_bytes_than_expected_is_not_fetched_whole(place, worker, control, index_at):
    case = {**CASE, "codecs": "none", "index_at": index_at, "reads": [((0, 4, 3), (0, 6, 1))]}
    key, workload = written(place, case)
    store = open_store(place, prefix=key)
    shard = obstore.get(store, "c/0/0").bytes().to_bytes()
    index = 4 * 16 + 4
    hole = bytes(100_000)
    obstore.put(store, "c/0/0", shard[:-index] + hole + shard[-index:] if index_at == "end" else shard + hole)
    ask = worker(ZarrsPlanned)
    ask(op="open", workload=workload)
    control.mark("larger", log=True)
    assert ask(op="sample")["timed"]["array_bytes"] == workload["array_bytes"]
    assert sum(r.bytes for r in control.requests("larger")) < 2 * len(shard)


@pytest.mark.parametrize("index_at", ["start", "end"])
def test_a_whole_shard_that_ends_early_is_an_error(place, worker, index_at):
    case = {**CASE, "shape": (8, 12), "reads": [((0, 8, 1), (0, 12, 1))], "index_at": index_at, "codecs": "none"}
    key, workload = written(place, case)
    store = open_store(place, prefix=key)
    shard = obstore.get(store, "c/0/0").bytes().to_bytes()
    ask = worker(ZarrsPlanned)
    ask(op="open", workload={**workload, "in_flight": 1})
    for left in (shard[:-7], shard[:10], b""):
        obstore.put(store, "c/0/0", left)
        assert "c/0/0" in ask.raw(op="sample")["error"]


def test_a_chunk_longer_than_a_part_comes_in_parts(place, worker, control):
    rows = 4096
    case = {**CASE, "chunk": (rows,), "shard": (2 * rows,), "shape": (2 * rows,), "reads": [((0, 2 * rows, 1),)]}
    _, workload = written(place, {**case, "codecs": "none"})
    ask = worker(Parts)
    ask(op="open", workload=workload)
    control.mark("parts", log=True)
    request_counts = ask(op="sample")["timed"]["request_counts"]
    asked = control.requests("parts")
    assert [r.range for r in asked if r.kind == "get_index"] == [(16384, 16384 + 2 * 16 + 4)]
    assert sorted(r.range for r in asked if r.kind == "get_data") == [
        (start, min(start + 3000, chunk + 8192)) for chunk in (0, 8192) for start in range(chunk, chunk + 8192, 3000)
    ]
    assert request_counts["requests"] == len(asked) == 7


def test_adjacent_chunks_of_a_small_read_share_a_request_up_to_256_kib(place, worker, control):
    chunk = 50 * 1024
    case = {**CASE, "chunk": (chunk,), "shard": (10 * chunk,), "shape": (10 * chunk,), "dtype": "uint16"}
    _, workload = written(place, {**case, "codecs": "none", "reads": [((0, 10 * chunk, 1),)]})
    ask = worker(Ranges)
    ask(op="open", workload={**workload, "in_flight": 100})
    control.mark("small", log=True)
    ask(op="sample")
    spans = sorted(r.range for r in control.requests("small") if r.kind == "get_data")
    assert spans == [(i * 200 * 1024, (i + 1) * 200 * 1024) for i in range(5)]


@pytest.mark.parametrize(("in_flight", "gets"), [(4, 4), (3, 1)])
def test_gaps_are_bridged_only_where_chunks_outnumber_requests(place, worker, control, in_flight, gets):
    case = {**CASE, "chunk": (1, 4), "shard": (8, 4), "shape": (8, 4), "reads": [((0, 8, 2), (0, 4, 1))]}
    _, workload = written(place, case)
    ask = worker(Ranges)
    ask(op="open", workload={**workload, "in_flight": in_flight})
    control.mark("gaps")
    ask(op="sample")
    seen = control.since("gaps")
    assert (seen.get_index, seen.get_data) == (1, gets)


def test_stock_asks_for_the_size_before_each_partial_read(place, worker, control):
    case = {**CASE, "chunk": (1, 4), "shard": (8, 4), "shape": (8, 8), "reads": [((0, 8, 2), (0, 8, 1))]}
    _, workload = written(place, case)
    ask = worker(Zarrs)
    ask(op="open", workload=workload)
    control.mark("stock")
    timed = ask(op="sample")["timed"]
    seen = control.since("stock")
    # Two shards: an index and four chunks of each, every one after a HEAD.
    assert (seen.head, seen.get_index, seen.get_data) == (10, 2, 8)
    assert timed["calls"] == 8
    assert timed["request_counts"]["head_requests"] == 10
    assert timed["request_counts"]["requests"] == seen.requests == 20


@pytest.mark.parametrize(
    ("settings", "sent"),
    [
        ({"shard_cache": "shard"}, (10, 2, 8)),
        ({"shard_cache": "shard", "task_per_shard": True}, (10, 2, 8)),
        ({"shard_cache": "none"}, (16, 8, 8)),  # an index and a chunk for each call
        ({"sync_threads": 4}, (10, 2, 8)),
        ({"sync_threads": 4, "shard_cache": "shard"}, (10, 2, 8)),
        ({"sync_threads": 4, "shard_cache": "none"}, (16, 8, 8)),
    ],
)
def test_a_cache_for_each_shard_sends_what_one_sends_and_none_sends_more(place, worker, control, settings, sent):
    case = {**CASE, "chunk": (1, 4), "shard": (8, 4), "shape": (8, 8), "reads": [((0, 8, 2), (0, 8, 1))]}
    _, workload = written(place, case)
    ask = worker(Zarrs, **settings)
    ask(op="open", workload=workload)
    control.mark("caches")
    assert ask(op="sample")["timed"]["calls"] == 8
    seen = control.since("caches")
    assert (seen.head, seen.get_index, seen.get_data) == sent


@pytest.mark.parametrize("api", [{}, {"sync_threads": 2}])
def test_a_task_per_shard_is_a_call_per_shard(place, worker, api):
    case = {**CASE, "reads": [((0, 9, 1), (0, 13, 1))]}
    _, workload = written(place, case)
    ask = worker(Zarrs, task_per_shard=True, **api)
    ask(op="open", workload=workload)
    assert ask(op="sample")["timed"]["calls"] == 9


@pytest.mark.parametrize(
    ("reader", "settings", "words"),
    [
        (Zarrs, {"threads": 7}, "unknown field `threads`"),
        (ZarrsPlanned, {"task_per_shard": True}, "only the engine stock"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(place, worker, reader, settings, words):
    _, workload = written(place)
    assert words in worker(reader, **settings).raw(op="open", workload=workload)["error"]


@pytest.mark.parametrize("reader", [Zarrs, ZarrsPlanned, Ranges])
def test_a_damaged_index_is_an_error(place, worker, reader):
    key, workload = written(place, {**CASE, "reads": [((0, 3, 2), (0, 13, 1))]})
    store = open_store(place, prefix=key)
    shard = bytearray(obstore.get(store, "c/0/0").bytes().to_bytes())
    shard[-10] ^= 1
    obstore.put(store, "c/0/0", bytes(shard))
    ask = worker(reader)
    ask(op="open", workload=workload)
    assert "checksum" in ask.raw(op="sample")["error"].lower()


@pytest.mark.parametrize("bit", [20, 33, 62, 63])
@pytest.mark.parametrize("word", [0, 1])
@pytest.mark.parametrize("reader", [ZarrsPlanned, Ranges, NetworkLimitRust])
def test_an_index_with_a_right_checksum_is_not_believed_either(place, worker, reader, word, bit):
    case = {**CASE, "reads": [((0, 3, 2), (0, 13, 1))]}
    key, workload = written(place, case)
    store = open_store(place, prefix=key)
    shard = obstore.get(store, "c/0/0").bytes().to_bytes()
    entries = np.frombuffer(shard[-(4 * 16 + 4) : -4], "<u8").copy()
    entries[word] |= np.uint64(1 << bit)
    body = entries.tobytes()
    obstore.put(store, "c/0/0", shard[: -(4 * 16 + 4)] + body + google_crc32c.value(body).to_bytes(4, "little"))
    ask = worker(reader)
    opened = ask(op="open", workload={**workload, "wanted_bytes": len(shard)})
    said = ask.raw(op="sample", variant=opened["variants"][0])["error"]
    assert "the index of" in said
    assert "beyond the object" in said
    assert "versions" in ask(op="open", workload=workload)  # the worker is as good as before


@pytest.mark.parametrize("reader", [ZarrsPlanned, Ranges])
def test_a_shard_that_ends_early_is_an_error(place, worker, reader):
    key, workload = written(place, {**CASE, "index_at": "start", "codecs": "none"})
    store = open_store(place, prefix=key)
    shard = obstore.get(store, "c/0/0").bytes().to_bytes()
    obstore.put(store, "c/0/0", shard[: 4 * 16 + 4 + 20])
    ask = worker(reader)
    ask(op="open", workload=workload)
    assert "error" in ask.raw(op="sample")


@pytest.mark.parametrize("reader", [Zarrs, ZarrsPlanned])
def test_strings_are_not_supported(place, worker, reader):
    key = f"a/{uuid.uuid4().hex}"
    array = zarr.create_array(
        ObjectStore(open_store(place, prefix=key)), shape=(6,), chunks=(3,), dtype="str", compressors=[ZstdCodec()]
    )
    array[:] = np.array(["a", "bb", "c", "d", "ee", "f"], object)
    case = {**CASE, "chunk": (3,), "shard": (3,), "shape": (6,), "reads": [((0, 6, 1),)]}
    reason = worker(reader).raw(op="open", workload=workload_of(place, key, case, [np.zeros(6)]))["na"]
    assert "fixed size" in reason or "string" in reason


@pytest.mark.parametrize("reader", [Zarrs, ZarrsPlanned])
def test_an_array_of_another_shape_is_refused(place, worker, reader):
    _, workload = written(place)
    workload["array"]["shape"] = (9, 14)
    assert "shape [9, 13]" in worker(reader).raw(op="open", workload=workload)["error"]


@pytest.mark.parametrize("reader", [Zarrs, ZarrsPlanned])
def test_plain_http_will_do(place, worker, control, reader):
    _, workload = written(place, {**CASE, "index_at": "end", "reads": [((0, 9, 2), (1, 13, 1))]})
    bucket = place.url.removeprefix("s3://")
    workload["target"] = {"name": "web", "url": f"{place.endpoint}/{bucket}"}
    ask = worker(reader)
    ask(op="open", workload=workload)
    control.mark("http")
    request_counts = ask(op="sample")["timed"]["request_counts"]
    seen = control.since("http")
    assert request_counts["requests"] == seen.requests > 0
    assert request_counts["fetched_bytes"] == seen.bytes_out


def test_two_truths_are_refused(place, worker):
    _, workload = written(place)
    workload["truth"]["decoded_crc32c"] = base64.b64encode(bytes(4)).decode()
    ask = worker(ZarrsPlanned)
    ask(op="open", workload=workload)
    assert "several truths" in ask.raw(op="sample")["error"]


def test_what_the_store_refuses_is_an_error_of_the_store(rust_reader, own_state, tmp_path, monkeypatch):
    keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-test"}
    for name, value in keys.items():
        monkeypatch.setenv(name, value)
    store = lifecycle.start(StoreSettings(profile="loopback", auth=True))
    s3_client(store.endpoint, *keys.values()).create_bucket(Bucket="private")
    target = Target(name="private", url="s3://private", endpoint=store.endpoint, region="us-east-1")
    _, workload = written(target)
    anonymous = {**workload, "target": {**workload["target"], "anonymous": True}}
    assert _run(rust_reader, tmp_path, workload, keys).returncode == 0
    for asked, environment in (workload, {**keys, "AWS_SECRET_ACCESS_KEY": "another"}), (anonymous, keys):
        done = _run(rust_reader, tmp_path, asked, environment)
        assert done.returncode == 3, done.stderr
        assert done.stderr.count("\n") == 1
        assert done.stdout == ""
        assert keys["AWS_SECRET_ACCESS_KEY"] not in done.stderr


def _run(rust_reader, directory, workload, environment):
    file = directory / "w.json"
    file.write_text(json.dumps(workload))
    command = [str(rust_reader), "run", str(file), "--samples", "1", "--json"]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"], **environment}
    )


@pytest.fixture
def slow(own_state):
    """A store whose requests take 20 ms, and a target in it."""
    store = lifecycle.start(StoreSettings(profile="s3"))
    s3_client(store.endpoint).create_bucket(Bucket="slow")
    target = Target(name="slow", url="s3://slow", endpoint=store.endpoint, region="us-east-1", anonymous=True)
    with StoreControl(store.control) as control:
        yield control, target


SIX = {**CASE, "chunk": (2,), "shard": None, "shape": (12,)}
"""Six chunks without shards."""


def asked_of(control, ask):
    """Return what a warm execution asks for."""
    ask(op="sample", discard=True)
    control.mark("asked", log=True)
    ask(op="sample")
    return control.requests("asked")


def test_reads_are_under_way_as_many_at_once_as_asked(rust_reader, worker, slow):
    control, target = slow
    _, workload = written(target, {**SIX, "reads": [((i, i + 2, 1),) for i in range(0, 12, 2)]})
    for reader in (Zarrs, ZarrsPlanned):
        ask = worker(reader)
        for at_once in (1, 2, 6):
            ask(op="open", workload={**workload, "concurrent_reads": at_once})
            asked = asked_of(control, ask)
            assert len(asked) == 6
            assert keep_to(asked, at_once), reader.name


def test_requests_of_the_synchronous_api_are_under_way_as_many_at_once_as_there_are_threads(rust_reader, worker, slow):
    control, target = slow
    _, workload = written(target, {**SIX, "reads": [((0, 12, 2),), ((1, 12, 2),)]})
    for threads in (1, 2, 6):
        ask = worker(Zarrs, sync_threads=threads)
        ask(op="open", workload={**workload, "concurrent_reads": 2})
        asked = asked_of(control, ask)
        assert len(asked) == 2 * 2 * 6  # a HEAD before each part of a chunk
        assert keep_to(asked, threads), threads


def test_the_report_holds_the_workload_without_its_truth(rust_reader, place, tmp_path):
    _, workload = written(place)
    done = _run(rust_reader, tmp_path, workload, {})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    told = {name: value for name, value in workload.items() if name != "truth"}
    assert report["workload"] == json.loads(msgspec.json.encode(told))
    assert report["network_limit"] is None
    assert report["samples"][0]["nic_rx_bytes"] is None

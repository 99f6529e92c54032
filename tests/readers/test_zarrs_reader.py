"""The Rust reader against zarr-python: every array it returns, over dtypes, codecs, shapes and selections."""

import base64
import json
import subprocess
import uuid

import google_crc32c
import msgspec
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import ObjectStore

from harness.errors import UnsupportedError
from harness.measure.process import WorkerProcess
from harness.readers import limit_clients, reader_class
from harness.readers.zarrs import NetworkLimitRust, Zarrs, ZarrsPlanned
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import files
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create

DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]
COMPRESSORS = {
    "none": (),
    "zstd": (ZstdCodec(level=1),),
    "zstd with checksum": (ZstdCodec(level=1, checksum=True),),
    "gzip": (GzipCodec(level=1),),
    "blosc": (BloscCodec(cname="lz4", typesize=1),),
    "crc32c": (Crc32cCodec(),),
    "zstd crc32c": (ZstdCodec(level=1), Crc32cCodec()),
}


class Ranges(ZarrsPlanned):
    """zarrs-planned that fetches ranges, however small a shard is."""

    whole_bytes = 0

    @classmethod
    def command(cls, environment):
        return [*super().command(environment), "--whole-bytes", str(cls.whole_bytes)]


ENGINES = {"zarrs": Zarrs, "zarrs-planned": ZarrsPlanned, "by ranges": Ranges}


@pytest.fixture(scope="module")
def target(embedded_store):
    create("--preset", "tiny")
    return resolve("embedded")


@pytest.fixture(scope="module")
def workers(rust_reader):
    """One process per engine for all cases: each opens its own array."""
    processes = {name: WorkerProcess(engine) for name, engine in ENGINES.items()}
    yield processes
    for process in processes.values():
        process.stop()


@st.composite
def cases(draw):
    axes = draw(st.integers(1, 3))
    chunk = draw(st.tuples(*[st.integers(1, 5)] * axes))
    per_shard = draw(st.tuples(*[st.integers(1, 4)] * axes))
    shard = tuple(c * n for c, n in zip(chunk, per_shard, strict=True))
    shape = draw(st.tuples(*[st.integers(1, 2 * s + 3) for s in shard]))
    read = []
    for size in shape:
        start = draw(st.integers(0, size - 1))
        stop = draw(st.integers(start + 1, size))
        read.append((start, stop, draw(st.sampled_from([1, 1, 2, 3]))))
    return {
        "chunk": chunk,
        "shard": draw(st.sampled_from([shard, shard, None])),
        "shape": shape,
        "reads": [tuple((0, size, 1) for size in shape), tuple(read)],
        "dtype": draw(st.sampled_from(DTYPES)),
        "codecs": draw(st.sampled_from(list(COMPRESSORS))),
        "endian": draw(st.sampled_from(["little", "big"])),
        "transposed": draw(st.booleans()),
        "index_at": draw(st.sampled_from(["start", "end"])),
        "outer": draw(st.sampled_from([False, False, True])),
        "holes": draw(st.sampled_from(["none", "some", "all"])),
        "fill": draw(st.sampled_from([0, 1])),
        "seed": draw(st.integers(0, 2**16)),
    }


def write(target, key, case):
    """Write the array of a case with zarr-python and return what it reads back."""
    inner = [BytesCodec(endian=case["endian"]), *COMPRESSORS[case["codecs"]]]
    if case["transposed"]:
        inner.insert(0, TransposeCodec(order=tuple(reversed(range(len(case["shape"]))))))
    store = ObjectStore(open_store(target, prefix=key))
    if case["shard"] is None:
        chunks = case["chunk"]
        filters = [codec for codec in inner if isinstance(codec, TransposeCodec)]
        serializer = next(codec for codec in inner if isinstance(codec, BytesCodec))
        compressors = inner[inner.index(serializer) + 1 :]
    else:
        sharding = ShardingCodec(
            chunk_shape=case["chunk"],
            codecs=inner,
            index_codecs=[BytesCodec(), Crc32cCodec()],
            index_location=case["index_at"],
        )
        chunks, filters, serializer = case["shard"], [], sharding
        compressors = [GzipCodec(level=1)] if case["outer"] else []
    array = zarr.create_array(
        store,
        shape=case["shape"],
        chunks=chunks,
        dtype=case["dtype"],
        filters=filters or None,
        serializer=serializer,
        compressors=compressors or None,
        fill_value=np.array(case["fill"], case["dtype"]).item(),
    )
    if case["holes"] != "all":
        rng = np.random.default_rng(case["seed"])
        values = rng.integers(0, 2 if case["dtype"] == "bool" else 100, case["shape"]).astype(case["dtype"])
        region = tuple(slice(0, -(-size // 2)) for size in case["shape"]) if case["holes"] == "some" else ...
        array[region] = values[region]
    return zarr.open_array(store, mode="r")


def checksum(array):
    return google_crc32c.value(np.ascontiguousarray(array).tobytes())


def workload_of(target, key, case, expected):
    crcs = np.array([checksum(array) for array in expected], "<u4")
    return {
        "schema": 1,
        "target": msgspec.to_builtins(target),
        "array": {
            "key": key,
            "shape": case["shape"],
            "chunk_shape": case["chunk"],
            "shard_shape": case["shard"] or case["chunk"],
        },
        "in_flight": 8,
        "reads": case["reads"],
        "array_bytes": sum(array.nbytes for array in expected),
        "wanted_bytes": 0,
        "truth": {"reads_crc32c": base64.b64encode(crcs.tobytes()).decode()},
    }


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_arrays_equal_zarr_pythons(target, workers, case):
    demand_the_truth(target, workers, case)


def demand_the_truth(target, workers, case):
    """Write the array of a case and demand that each worker reads what zarr-python does."""
    key = f"grid/{uuid.uuid4().hex}"
    array = write(target, key, case)
    expected = [array[tuple(slice(*axis) for axis in read)] for read in case["reads"]]
    assert [part.shape for part in expected] == [tuple(len(range(*axis)) for axis in read) for read in case["reads"]]
    asked = workload_of(target, key, case, expected)
    for name, worker in workers.items():
        request = {"op": "open", "workload": asked, "settings": worker.given.opening}
        opened = worker.ask(request, timeout=60)
        assert "versions" in opened, (name, opened)
        answer = worker.ask({"op": "sample"}, timeout=60)
        assert "timed" in answer, (name, answer)
        assert answer["timed"]["array_bytes"] == asked["array_bytes"]


def test_the_comparison_can_fail(target, workers):
    case = {
        "chunk": (2,), "shard": (4,), "shape": (10,), "reads": [((0, 10, 1),)], "dtype": "uint16", "codecs": "zstd",
        "endian": "little", "transposed": False, "index_at": "end", "outer": False, "holes": "none", "fill": 0,
        "seed": 1,
    }  # fmt: skip
    key = f"grid/{uuid.uuid4().hex}"
    array = write(target, key, case)
    wrong = np.array(array[:])
    wrong[7] ^= 1
    for worker in workers.values():
        worker.ask({"op": "open", "workload": workload_of(target, key, case, [wrong])}, timeout=60)
        assert "do not match the truth" in worker.ask({"op": "sample"}, timeout=60)["error"]


@pytest.mark.parametrize(
    ("engine", "variant"),
    [(ZarrsPlanned, 0), (Ranges, 0), (NetworkLimitRust, 0), (NetworkLimitRust, 1), (NetworkLimitRust, 2)],
)
@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("whole_array", {}),
        ("chunks_of_one_shard", {"gap": 1}),
        ("chunks_of_many_shards", {"shards": 4}),
        ("random_crops", {"crop": (2, 20, 20), "crops": 6}),
    ],
)
def test_what_it_counts_is_what_the_store_counted(target, rust_reader, control, engine, variant, pattern, asked):
    workload = create_workload(pattern, target, parameters=Parameters(**asked))
    worker = WorkerProcess(engine)
    try:
        opened = worker.ask({"op": "open", "workload": msgspec.to_builtins(workload)}, timeout=60)
        worker.ask({"op": "sample", "variant": opened["variants"][variant], "discard": True}, timeout=60)
        control.mark("count")
        answer = worker.ask({"op": "sample", "variant": opened["variants"][variant]}, timeout=60)
        request_counts = answer["timed"]["request_counts"]
        seen = control.since("count")
    finally:
        worker.stop()
    assert request_counts["requests"] == seen.requests > 0
    assert request_counts["index_requests"] == seen.get_index
    assert request_counts["head_requests"] == seen.head
    assert request_counts["fetched_bytes"] == seen.bytes_out
    assert (request_counts["retries"], seen.head) == (0, 0)


@pytest.fixture
def limit(rust_reader, control):
    """Let the network limit's client in Rust fetch by a plan, and return what the store was asked for."""
    worker = WorkerProcess(reader_class("network-limit+rust"))

    def fetch(workload, variant):
        opened = worker.open(workload, timeout=60)
        assert variant in opened["variants"]
        control.mark("limit", log=True)
        worker.require({"op": "sample", "variant": variant}, timeout=60)
        return control.requests("limit")

    yield fetch
    worker.stop()


def test_the_limit_in_rust_tries_whole_shards_which_bring_their_index_along(target, limit):
    workload = create_workload("chunks_of_many_shards", target, parameters=Parameters(shards=4))
    requests = limit(workload, "whole")
    assert len(requests) == workload.wanted_shards == 4
    assert {request.kind for request in requests} == {"get_data"}
    assert sum(request.bytes for request in requests) == workload.object_bytes > workload.wanted_bytes


def test_the_limit_in_rust_fetches_once_what_reads_want_at_the_same_moment(target, limit):
    asked = Parameters(crop=(64, 128, 256), crops=3, concurrent_reads=3)  # three times the whole array
    workload = create_workload("random_crops", target, dataset="tiny/large", parameters=asked)
    at_once, in_turn = (limit(msgspec.structs.replace(workload, concurrent_reads=n), "exact") for n in (3, 1))
    assert len(in_turn) == 3 * len({(r.key, r.range) for r in in_turn})
    assert len({(r.key, r.range) for r in at_once}) <= len(at_once) < len(in_turn)


def test_both_clients_of_the_limit_try_the_same_plans(target, rust_reader):
    for asked in (Parameters(), Parameters(crop=(2, 20, 20), crops=6)):
        pattern = "whole_array" if asked.crop is None else "random_crops"
        workload = create_workload(pattern, target, parameters=asked)
        for work in (workload, msgspec.structs.replace(workload, object_bytes=0)):
            variants = []
            for name in limit_clients():
                worker = WorkerProcess(reader_class(name))
                variants.append(worker.open(work, timeout=60)["variants"])
                worker.stop()
            assert variants[0] == variants[1]


def test_the_plan_is_one_index_and_one_range_per_shard(target, rust_reader, control):
    workload = create_workload("chunks_of_many_shards", target, parameters=Parameters(shards=4), in_flight=10)
    worker = WorkerProcess(Ranges)
    try:
        worker.ask({"op": "open", "workload": msgspec.to_builtins(workload)}, timeout=60)
        control.mark("plan")
        worker.ask({"op": "sample"}, timeout=60)
        seen = control.since("plan")
    finally:
        worker.stop()
    assert (seen.get_index, seen.get_data) == (4, 4)


def run(rust_reader, file, *arguments, env=None):
    command = [str(rust_reader), "run", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


@pytest.fixture
def file(target, tmp_path):
    workload = create_workload("chunks_of_one_shard", target, parameters=Parameters(gap=1))
    path = tmp_path / "w.json"
    path.write_bytes(workloads.encode(workload))
    return path


@pytest.mark.parametrize("engine", ["stock", "planned", "network-limit"])
def test_one_execution_as_a_command(rust_reader, file, engine):
    done = run(rust_reader, file, "--engine", engine, "--samples", "2", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == 1
    assert len(report["samples"]) == 2
    assert all(sample["requests"] > 0 for sample in report["samples"])
    assert {sample["verified"] for sample in report["samples"]} == {engine != "network-limit"}  # it decodes nothing
    assert report["versions"]["object_store"]


def test_what_is_compared_with_nothing_is_not_called_verified(rust_reader, file):
    fields = json.loads(file.read_text()) | {"truth": {}}
    file.write_text(json.dumps(fields))
    for options, says in (([], "not verified"), (["--json"], '"verified": false')):
        done = run(rust_reader, file, "--samples", "1", *options)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout


def test_lines_for_people_say_what_was_verified(rust_reader, file):
    (line,) = run(rust_reader, file, "--samples", "1").stdout.splitlines()
    assert line.endswith("ms CPU  verified")


def test_the_arrays_can_be_had(rust_reader, file, target, tmp_path):
    assert run(rust_reader, file, "--samples", "1", "--dump", str(tmp_path / "raw")).returncode == 0
    workload = files.load(file)
    array = zarr.open_array(ObjectStore(open_store(target, prefix=workload.array.key)), mode="r")
    expected = array[tuple(slice(*axis) for axis in workload.reads[0])]
    assert (tmp_path / "raw").read_bytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"schema": 2}, 2, "schema 2; this version reads 1"),
        ({"in_flight": 0}, 2, "at least 1"),
        ({"in_flight": 1 << 63}, 2, "at most 10000"),
        ({"concurrent_reads": 1 << 63}, 2, "at most 10000"),
        ({"array_bytes": 1 << 62}, 2, "more than a quarter of this machine's memory"),
        ({"array_bytes": 1 << 24}, 2, "array_bytes is not the size of what its reads select"),
        ({"reads": [[[0, 1, 1]]]}, 2, "a read has 1 axes"),
        ({"reads": [[[0, 10**9, 1], [0, 1, 1], [0, 1, 1]]]}, 2, "no selection of an axis"),
        ({"target": {"name": "x", "url": "ftp://host/x"}}, 2, "no store for ftp://"),
        ({"truth": {"decoded_crc32c": base64.b64encode(bytes(16)).decode()}}, 1, "is wrong"),
    ],
)
def test_a_workload_that_cannot_be_executed(rust_reader, file, change, code, words):
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    done = run(rust_reader, file, "--samples", "1")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert done.stdout == ""


def test_places_that_cannot_be_read(rust_reader, file, tmp_path):
    given = json.loads(file.read_text())
    for target, words in (
        ({**given["target"], "url": "s3://nowhere"}, "NoSuchBucket"),
        ({**given["target"], "endpoint": "http://127.0.0.1:9"}, "http://127.0.0.1:9"),
    ):
        file.write_text(json.dumps(given | {"target": target}))
        done = run(rust_reader, file, "--samples", "1")
        assert done.returncode == 3, done.stderr
        assert words in done.stderr or "NotFound" in done.stderr or "not found" in done.stderr
    assert run(rust_reader, tmp_path / "missing.json").returncode == 2
    file.write_text("{")
    assert run(rust_reader, file).returncode == 2


def test_it_leaves_with_its_conductor(rust_reader):
    done = subprocess.run(
        [str(rust_reader), "worker"],
        env={"ZCB_CONDUCTOR_PID": "1"},
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == ""


def test_python_cannot_time_it():
    with pytest.raises(UnsupportedError, match="a process of its own"):
        reader_class("zarrs")().open(None)

"""An array given by its URL alone: read over plain HTTP by every reader, held to what two of them agree on."""

import json

import msgspec
import numpy as np
import obstore
import pytest
import zarr
from click.testing import CliRunner
from zarr.storage import ObjectStore

from harness.cli import zcb
from harness.datasets import manifest
from harness.datasets.metadata import of_metadata, of_spec
from harness.errors import BadUseError, MeasurementError, StoreError, UnsupportedError
from harness.machine.log import progress_to
from harness.measure import agreement
from harness.measure.agreement import agreed_truth
from harness.measure.conductor import Conductor, Plan
from harness.measure.execution import OPEN_SECONDS, turn_deadline
from harness.measure.process import WorkerProcess
from harness.measure.report import read_reports
from harness.readers import reader_class
from harness.results.sample import FLAG_BELOW_LIMIT, FLAG_BUSY_MACHINE, FLAG_NO_MANIFEST, NETWORK_LIMIT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload import files
from harness.workload.create import create_workload
from harness.workload.model import encode
from harness.workload.patterns import Parameters
from harness.workload.truth import checksums
from setup_data import presets, write
from setup_data.bucket import ensure_bucket
from setup_data.cli import data
from setup_data.encode import zarr_json
from setup_data.field import Field
from studies import stored
from tests.support.readers import OF_ARRAYS

COUNT = [name for name in (*OF_ARRAYS, NETWORK_LIMIT) if reader_class(name).counts_requests]


@pytest.fixture(scope="module")
def place(embedded_store, s3):
    """An S3 target with the smallest data sets, and the address under which plain HTTP finds its bucket."""
    s3.create_bucket(Bucket="public-data")
    return filled(embedded_store, "public-data")


@pytest.fixture
def own_place(embedded_store, bucket):
    """The same for one test, which may change what is there."""
    return filled(embedded_store, bucket)


def filled(embedded_store, bucket):
    target = Target(name="own", url=f"s3://{bucket}", endpoint=embedded_store.endpoint, anonymous=True)
    for spec in presets.specs("tiny", ("small", "large")):
        write.write(open_store(target), spec)
    return target, f"{embedded_store.endpoint}/{bucket}"


@pytest.fixture(scope="module")
def ragged(place):
    """What our own writer never makes, written by zarr-python: edges, a fill value, chunks that are not stored."""
    target, _ = place
    store = ObjectStore(open_store(target, prefix="public/ragged.zarr"))
    array = zarr.create_array(
        store,
        shape=(19, 50, 33),
        chunks=(1, 16, 16),
        shards=(8, 32, 32),
        dtype="float32",
        fill_value=2.5,
        zarr_format=3,
    )
    values = np.random.default_rng(0).normal(size=array.shape).astype("f4")
    values[:4] = 2.5  # zarr-python does not store these
    array[...] = values
    return values


def make(url, pattern="chunks_of_one_shard", said=None, **asked):
    with progress_to([].append if said is None else said.append):
        return create_workload(pattern, resolve(url), parameters=Parameters(**asked), agree=agreed_truth)


ONE_SAMPLE = Plan(samples=1, trials=1)


@pytest.fixture(scope="module")
def everyone(rust_reader):
    """Every reader, each in a process that the tests share."""
    with Conductor(OF_ARRAYS, plan=ONE_SAMPLE) as conductor:
        yield conductor


def measure(work, conductor):
    return {row.reader: row for row in conductor.measure(work)}


def measured_by_one(work):
    with Conductor(["zarr-python+obstore"], plan=ONE_SAMPLE) as conductor:
        return measure(work, conductor)["zarr-python+obstore"]


@pytest.mark.parametrize(
    ("pattern", "dataset", "asked"),
    [
        ("whole_array", "large", {}),
        ("chunks_of_one_shard", "small", {"gap": 1}),
        ("random_crops", "small", {"crop": (3, 20, 20), "crops": 4}),
    ],
)
def test_every_reader_reads_a_url_and_is_compared(place, control, everyone, pattern, dataset, asked):
    _, address = place
    said: list[str] = []
    work = make(f"{address}/tiny/{dataset}", pattern, said, **asked)
    assert work.truth.agreed_by == ("zarr-python+obstore", "tensorstore")
    assert [line.rpartition(" ")[2] for line in said] == list(work.truth.agreed_by)
    (spec,) = presets.specs("tiny", (dataset,))
    whole = Field(spec.seed, spec.dtype).box((0,) * len(spec.shape), spec.shape)
    right = [whole[tuple(slice(*axis) for axis in read)] for read in work.reads]
    assert work.truth.reads_crc32c == checksums(work.array, work.reads, right)
    control.mark("public")
    rows = measure(work, everyone)
    counted = control.since("public")
    assert {name: row.na or row.error for name, row in rows.items() if row.na or row.error} == {}
    assert counted.errors == 0
    for row in rows.values():
        counts = reader_class(row.variant.partition(" ")[0] or row.reader).counts_alone(work.target)
        for sample in row.samples:
            assert sample.flags.count(FLAG_NO_MANIFEST) == 1
            assert sample.requests_source == ("reader" if counts else None)
    reports = json.loads(read_reports(list(rows.values()), rows[NETWORK_LIMIT]))
    agreed = {"source": "agreement", "readers": list(work.truth.agreed_by)}
    assert [report["truth"] for report in reports] == [agreed] * len(rows)
    assert {report["target"] for report in reports} == {f"{address}/tiny/{dataset}"}


@pytest.mark.usefixtures("rust_reader")
@pytest.mark.parametrize("reader", COUNT)
def test_what_a_reader_counts_over_http_is_what_the_store_counts(place, control, reader):
    work = create_workload("chunks_of_one_shard", resolve(place[1]), dataset="tiny/small", parameters=Parameters(gap=1))
    worker = WorkerProcess(reader_class(reader))
    try:
        opened = worker.require({"op": "open", "workload": msgspec.to_builtins(work)}, timeout=OPEN_SECONDS)
        sample = {"op": "sample", "variant": opened["variants"][0]}
        worker.require(sample | {"discard": True}, timeout=turn_deadline(work))
        control.mark("counted")
        request_counts = worker.require(sample, timeout=turn_deadline(work))["timed"]["request_counts"]
        seen = control.since("counted")
    finally:
        worker.stop()
    if reader == "zarrs-planned":  # a suffix range that is all of a small shard
        assert (request_counts["requests"], request_counts["fetched_bytes"]) == (1, work.object_bytes)
    else:  # a suffix range: the size of the shard is not asked for
        assert request_counts["index_requests"] >= 1
    assert (request_counts["requests"], request_counts["index_requests"]) == (seen.requests, seen.get_index)
    assert (request_counts["head_requests"], request_counts["fetched_bytes"]) == (seen.head, seen.bytes_out)


@pytest.mark.parametrize(
    ("pattern", "asked"), [("whole_array", {}), ("random_crops", {"crop": (6, 20, 33), "crops": 5, "seed": 3})]
)
def test_edges_fill_values_and_chunks_that_are_not_stored(place, ragged, everyone, pattern, asked):
    _, address = place
    work = make(f"{address}/public/ragged.zarr", pattern, **asked)
    right = [ragged[tuple(slice(*axis) for axis in read)] for read in work.reads]
    assert work.truth.reads_crc32c == checksums(work.array, work.reads, right)
    assert (work.array.key, work.array.codec, work.array.shard_grid) == ("ragged.zarr", "zstd", (3, 2, 2))
    rows = measure(work, everyone)
    assert {name: row.na or row.error for name, row in rows.items() if row.na or row.error} == {}


def test_a_codec_that_one_library_does_not_know_is_na_for_it_and_nobody_elses_failure(own_place, everyone, tmp_path):
    target, address = own_place
    store = ObjectStore(open_store(target, prefix="shuffled.zarr"))
    shuffled = {"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}}
    settings = {"shape": (8, 32, 32), "chunks": (1, 16, 16), "shards": (8, 32, 32), "dtype": "uint16"}
    array = zarr.create_array(store, compressors=[shuffled, zarr.codecs.ZstdCodec()], zarr_format=3, **settings)
    array[...] = np.arange(8 * 32 * 32, dtype="u2").reshape(8, 32, 32)
    file = tmp_path / "w.json"
    file.write_bytes(encode(make(f"{address}/shuffled.zarr", "whole_array")))
    assert files.load(file).truth.agreed_by == ("zarr-python+fsspec", "zarrista")
    rows = measure(files.load(file), everyone)
    reason = "tensorstore cannot read this array: "
    assert {name: row.error for name, row in rows.items() if row.error} == {}
    assert [name for name, row in rows.items() if row.na] == ["tensorstore"]
    assert rows["tensorstore"].na.startswith(reason)
    assert '"numcodecs.shuffle" is not registered' in rows["tensorstore"].na
    shown = zcb_run(zcb, "read", "tensorstore,zarrista", str(file), "--samples", "1")
    assert (shown.exit_code, reason in " ".join(shown.output.split())) == (0, True)


def test_a_shard_that_is_not_stored_holds_the_fill_value_where_no_manifest_says_otherwise(own_place, everyone):
    target, address = own_place
    obstore.delete(open_store(target), "tiny/large/c/0/0/0")
    (spec,) = presets.specs("tiny", ("large",))
    right = Field(spec.seed, spec.dtype).box((0,) * len(spec.shape), spec.shape)
    right[:, :64, :128] = 0
    work = make(f"{address}/tiny/large", "whole_array")
    assert work.truth.reads_crc32c == checksums(work.array, work.reads, [right])
    rows = measure(work, everyone)
    assert {name: row.na or row.error for name, row in rows.items() if row.na or row.error} == {}
    (read,) = make(f"{address}/tiny/large").reads  # of the first shard that is there
    assert read == ((0, 4, 1), (0, 64, 1), (128, 256, 1))
    with pytest.raises(StoreError, match="holds no tiny/large/c/0/0/0"):
        create_workload("whole_array", target, dataset="tiny/large")


def test_a_store_that_counts_allows_for_objects_that_are_not_stored(embedded_store, everyone):
    target = resolve("embedded")
    ensure_bucket(target)
    document = {
        "zarr_format": 2,
        "shape": [6, 5],
        "chunks": [2, 5],
        "dtype": ">f4",
        "compressor": None,
        "filters": None,
        "order": "F",
        "fill_value": "NaN",
    }
    values = np.arange(30, dtype=">f4").reshape(6, 5)
    values[2:4] = np.nan
    for key, body in stored.write(document, values, [0, 2], writer="zarr-python").items():
        obstore.put(open_store(target), f"holes/elder/{key}", body)
    work = create_workload("whole_array", target, array="holes/elder", agree=agreed_truth)
    assert work.truth.reads_crc32c == checksums(work.array, work.reads, [values])
    rows = measure(work, everyone)
    assert {name: row.error for name, row in rows.items() if row.error} == {}
    assert {name for name, row in rows.items() if row.na} == {"xarray", "dask", "zarrs-python+obstore"}
    assert "Non-native byte order" in rows["zarrs-python+obstore"].na
    assert {sample.requests_source for row in rows.values() for sample in row.samples} == {"store"}


def test_the_same_array_over_s3_is_read_without_its_manifest_too(place):
    target, address = place
    there = msgspec.structs.replace(target, url=f"{target.url}/tiny/small")
    made = create_workload("chunks_of_one_shard", there, agree=lambda work: agreed_truth(work))
    over_http = make(f"{address}/tiny/small")
    assert (made.target.url, made.array) == (f"{target.url}/tiny", over_http.array)
    assert made.truth == over_http.truth


def test_a_data_set_with_a_manifest_is_read_over_http_as_it_is(place):
    _, address = place
    made = create_workload("chunks_of_one_shard", resolve(address), dataset="tiny/small")
    assert made.truth.agreed_by == ()
    assert made.truth.decoded_crc32c is not None
    row = measured_by_one(made)
    ours = {FLAG_BUSY_MACHINE, FLAG_BELOW_LIMIT}  # what tests beside it bring about
    assert [set(sample.flags) - ours for sample in row.samples] == [set()]
    (report,) = json.loads(read_reports([row], row))
    assert report["truth"] == {"source": "manifest", "readers": []}


def test_a_chunk_that_changes_after_the_workload_was_made_is_no_sample(own_place):
    target, address = own_place
    work = make(f"{address}/tiny/small")
    store = open_store(target)
    body = bytearray(bytes(obstore.get(store, "tiny/small/c/0/0/0").bytes()))
    other = bytes(obstore.get(store, "tiny/small/c/0/0/1").bytes())
    assert bytes(body) != other
    obstore.put(store, "tiny/small/c/0/0/0", other)
    row = measured_by_one(work)
    assert row.samples == []
    assert "do not match the workload's truth" in str(row.error)


# --- when there is no agreement


def test_two_readers_that_disagree_make_no_workload(place, monkeypatch):
    told = iter(["AAAAAAEAAAA=", "AAAAAAIAAAA="])  # two reads each, of which the second differs
    monkeypatch.setattr(agreement, "_checksums", lambda *_: next(told))
    with pytest.raises(MeasurementError, match=r"zarr-python\+obstore and tensorstore disagree on read 1"):
        make(f"{place[1]}/tiny/small")


def test_the_next_stack_stands_in_for_one_that_cannot(place, monkeypatch):
    def told(reader, _):
        if reader in ("tensorstore", "zarr-python+obstore"):
            raise UnsupportedError("cannot")
        return "AAAAAA=="

    monkeypatch.setattr(agreement, "_checksums", told)
    work = make(f"{place[1]}/tiny/small")
    assert work.truth.agreed_by == ("zarr-python+fsspec", "zarrista")


def test_one_reader_alone_is_no_truth(place, monkeypatch):
    def told(reader, _):
        if reader != "tensorstore":
            raise MeasurementError(f"{reader} failed")
        return "AAAAAA=="

    monkeypatch.setattr(agreement, "_checksums", told)
    with pytest.raises(MeasurementError, match=r"no two independent readers can read it: .*zarrista: zarrista failed"):
        make(f"{place[1]}/tiny/small")


def test_without_anybody_to_agree_such_an_array_is_refused(place):
    with pytest.raises(BadUseError, match="has no manifest: only `zcb workload` can do with that"):
        create_workload("whole_array", resolve(f"{place[1]}/tiny/small"))


def test_our_own_metadata_and_manifest_describe_the_same_array(place):
    target, _ = place
    known = manifest.load(target, "tiny/small").spec
    assert of_metadata(known.key, zarr_json(known)) == msgspec.structs.replace(of_spec(known), subchunk_order="unknown")


def zcb_run(group, *arguments):
    return CliRunner().invoke(group, arguments)


def test_what_plain_http_cannot_do_is_said(own_place, tmp_path):
    target, address = own_place
    output = ["-o", str(tmp_path / "w.json")]
    store = open_store(target)
    obstore.put(store, "old.zarr/.zarray", b"{}")
    obstore.put(store, "zarr.json", zarr_json(presets.specs("tiny", ("small",))[0]))
    cases = [
        (data, ["create", "--preset", "tiny", "--target", address], "which cannot write"),
        (data, ["verify", "--target", address], "which cannot list: name data sets by --dataset"),
        (zcb, ["workload", "whole_array", "--target", f"{address}/nothing", *output], "neither an array"),
        (
            zcb,
            ["workload", "whole_array", "--target", f"{address}/old.zarr", *output],
            "'old.zarr': its .zarray is not an array's metadata",
        ),
        (zcb, ["workload", "nonsense", "--target", f"{address}/tiny/small", *output], "unknown pattern"),
    ]
    for group, arguments, complaint in cases:
        error = zcb_run(group, *arguments).exception
        assert isinstance(error, BadUseError), arguments
        assert complaint in str(error)
    with pytest.raises(BadUseError, match="an array without a name"):
        create_workload("whole_array", target)
    with pytest.raises(StoreError, match=r"cannot reach http://127\.0\.0\.1:1"):
        create_workload("whole_array", resolve("http://127.0.0.1:1/x"))
    assert not (tmp_path / "w.json").exists()


def test_a_data_set_is_verified_over_http(place):
    done = zcb_run(data, "verify", "--target", place[1], "--dataset", "tiny/small")
    assert (done.exit_code, done.exception) == (0, None)
    assert "tiny/small verifies" in done.output


def test_the_command_says_whose_truth_it_is(place, tmp_path):
    file = tmp_path / "w.json"
    done = zcb_run(zcb, "workload", "chunks_of_one_shard", "--target", f"{place[1]}/tiny/small", "-o", str(file))
    assert done.exit_code == 0, done.output
    assert "no manifest: the truth is what zarr-python+obstore and tensorstore agree on" in done.output
    assert files.load(file).truth.agreed_by == ("zarr-python+obstore", "tensorstore")
    shown = zcb_run(zcb, "read", "tensorstore", str(file), "--samples", "1")
    assert shown.exit_code == 0, shown.output
    assert " ".join(shown.output.split()).count("what two independent readers agree on") == 1

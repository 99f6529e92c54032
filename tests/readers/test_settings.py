"""Settings that a search may try, with the libraries themselves: arrays stay right, and libraries do as told."""

import json

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.measure.process import WorkerProcess
from harness.readers import reader_class, tuned_readers, tunings
from harness.readers.settings import TUNED, given
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.readers.test_reads import FLAT, WIDE
from tests.support.data import create

READERS = [name.removesuffix(TUNED) for name in tuned_readers()]
WORK = {
    "whole": ("whole_array", Parameters()),
    "adjacent": ("chunks_of_one_shard", Parameters(gap=0)),
    "gaps": ("chunks_of_many_shards", Parameters(shards=2, gap=1)),
    "crops": ("random_crops", Parameters(crops=4, seed=1)),
}


@pytest.fixture(scope="module")
def work(embedded_store, rust_reader):
    """Workloads of the preset tiny, and of a whole array of as many shards, by name."""
    create("--preset", "tiny", "--as", "icechunk")
    create("--name", "flat", *FLAT, "--as", "icechunk")
    target = resolve("embedded")
    return {
        name: create_workload(
            pattern, target, dataset="custom/flat" if name == "whole" else "tiny/small", parameters=parameters
        )
        for name, (pattern, parameters) in WORK.items()
    }


@pytest.fixture
def start():
    """Start a reader's process with settings; it ends with the test."""
    started = []

    def run(name, **chosen):
        reader = reader_class(name)
        settings = given(reader.settings, chosen, in_flight=100)
        started.append(WorkerProcess(reader, {}, settings))
        return started[-1]

    yield run
    for worker in started:
        worker.stop()


def read(worker, workload):
    """Open a workload and execute it; the worker compares its arrays with the truth."""
    worker.open(workload, timeout=60)
    return worker.require({"op": "sample"}, timeout=60)["timed"]


@pytest.mark.parametrize("which", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("name", READERS)
def test_whatever_is_tried_the_arrays_are_right(work, start, name, which):
    worker = start(name, **{one.name: one.values[which] for one in reader_class(name).settings})
    for workload in work.values():
        assert read(worker, workload)["seconds"] > 0


@pytest.mark.parametrize("name", ["zarr-python+obstore", "zarr-python+fsspec"])
def test_chunks_share_no_request_where_no_gap_is_bridged(work, start, control, name):
    gets = []
    for chosen in ({}, {"array.sharding_coalesce_max_gap_bytes": -1}):
        control.mark("gaps")
        read(start(name, **chosen), work["adjacent"])
        gets.append(control.since("gaps").get_data)
    assert gets == [1, 4]


def test_s3fs_cuts_whole_objects_as_it_is_told(work, start, control):
    seen = []
    create("--name", "wide", *WIDE)  # one shard of 16 MiB
    workload = create_workload("whole_array", work["whole"].target, dataset="wide", parameters=Parameters())
    for chosen in ({}, {"default_block_size": 4 << 20}, {"max_concurrency": 1}):
        worker = start("zarr-python+fsspec", **chosen)
        worker.open(workload, timeout=60)
        control.mark("parts")
        worker.require({"op": "sample"}, timeout=60)
        counted = control.since("parts")
        seen.append((counted.head, counted.requests - counted.head))
    assert seen == [(1, 1), (1, 5), (0, 1)]  # HEADs and GETs: the index is a fifth part


@pytest.mark.parametrize(("sharing", "indexes"), [(None, 8), ("read", 2), ("shard", 2)])
def test_a_cache_that_is_made_inside_the_read_saves_indexes(work, start, control, sharing, indexes):
    worker = start("zarrista", **({"shard_cache": sharing} if sharing else {}))
    read(worker, work["gaps"])
    control.mark("again")  # a second read finds none of the first one's
    worker.require({"op": "sample"}, timeout=60)
    assert control.since("again").get_index == indexes


@pytest.mark.parametrize(("blocks", "indexes"), [(None, 1024), ("shards", 0), ("auto", 0)])
def test_blocks_of_dask_decide_how_often_an_index_is_read(work, start, control, blocks, indexes):
    whole = work["whole"]
    worker = start("dask", **({"chunks": blocks} if blocks else {}))
    worker.open(whole, timeout=60)
    control.mark("blocks")
    worker.require({"op": "sample"}, timeout=120)
    counted = control.since("blocks")
    assert counted.get_index == indexes
    assert counted.get_data == (indexes or whole.wanted_shards)


def test_icechunk_fetches_in_parts_what_is_larger_than_it_is_told(work, start, control):
    create("--name", "wide", *WIDE, "--as", "icechunk")  # one shard of 16 MiB
    workload = create_workload("whole_array", work["whole"].target, dataset="wide", parameters=Parameters())
    gets = []
    for chosen in ({}, {"ideal_concurrent_request_size": 4 << 20}, {"ideal_concurrent_request_size": 64 << 20}):
        worker = start("icechunk", **chosen)
        worker.open(workload, timeout=60)  # which fetches the manifest
        control.mark("parts")
        worker.require({"op": "sample"}, timeout=60)
        gets.append(control.since("parts").requests)
    assert gets == [2, 5, 1]


@pytest.mark.parametrize("name", ["zarrista", "zarrs"])
def test_a_task_per_shard_is_a_call_per_shard(work, start, name):
    assert read(start(name), work["whole"])["calls"] == 1
    assert read(start(name, task_per_shard=True), work["whole"])["calls"] == work["whole"].wanted_shards


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("zarr-python+obstore", "TOKIO_WORKER_THREADS"),
        ("icechunk", "TOKIO_WORKER_THREADS"),
        ("zarrista", "TOKIO_WORKER_THREADS"),
        ("zarrs", "TOKIO_WORKER_THREADS"),
        ("zarrs-python+obstore", "RAYON_NUM_THREADS"),
        ("tensorstore", "TENSORSTORE_HTTP_THREADS"),
    ],
)
def test_a_variable_reaches_the_library(work, start, name, variable):
    threads = []
    for number in (2, 18):
        worker = start(name, **{variable: number})
        read(worker, work["gaps"])
        threads.append(psutil.Process(worker.pid).num_threads())
    assert threads[1] - threads[0] > 8  # some threads of others come and go


@pytest.fixture
def ask(work, tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_TUNINGS", str(tmp_path / "tunings.toml"))
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(work["gaps"]))

    def run(command, reader, *options):
        return CliRunner().invoke(zcb, [command, reader, str(file), *options])

    return run


def test_a_tuned_row_is_there_once_something_was_searched_for(ask, work):
    refused = ask("read", "zarrs+tuned", "--samples", "1")
    assert "`zcb tune zarrs w.json` does that" in str(refused.exception)
    found = ask("tune", "zarrs", "--seconds", "0", "--json")
    assert found.exit_code == 0, found.exception
    assert json.loads(found.stdout)["complete"] is False
    (kept,) = tunings.load()
    assert (kept.reader, kept.settings, kept.digest) == ("zarrs", {}, work["gaps"].digest)
    tunings.keep(msgspec.structs.replace(kept, settings={"concurrent_target": "in-flight", "shard_cache": "shard"}))
    read = ask("read", "zarrs+tuned", "--samples", "1", "--json")
    assert read.exit_code == 0, read.exception
    report = json.loads(read.stdout)
    assert report["reader"] == "zarrs+tuned"
    assert report["settings"] == {"concurrent_target": 100, "shard_cache": "shard"}
    shown = ask("read", "zarrs,zarrs+tuned", "--samples", "1").stdout
    assert "zarrs+tuned: concurrent_target=100, shard_cache=shard" in shown


def test_a_search_ends_with_what_it_found(ask):
    shown = ask("tune", "zarrs", "--seconds", "0").stdout.splitlines()
    tried = "0 trials, not all that there are: the time was up"
    assert shown[-1] == f"zarrs: nothing is better than what its documentation tells ({tried})"
    refused = ask("tune", "zarrs-planned")
    assert "zarrs-planned has no settings to tune" in str(refused.exception)

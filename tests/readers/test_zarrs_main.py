"""The Rust readers built with zarrs' main branch, as ``zcb crates`` does, against those of its release.

The history of zarrs is named by ZCB_ZARRS_REPO. The build takes minutes once, and is kept in the user's cache.
"""

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from harness.measure.process import WorkerProcess
from harness.measure.timelines import record_timeline
from harness.readers import reader_class
from harness.readers.settings import Given
from harness.targets.resolve import resolve
from harness.verdict import crates
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.readers.test_zarrs_reader import cases, demand_the_truth, workload_of, write
from tests.support.data import create

ENGINES = ("zarrs", "zarrs-planned")
BLOCKING = "zarrs by its synchronous API"
REAL = os.environ.get(crates.REPOSITORY_VARIABLE, "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL, reason=f"{crates.REPOSITORY_VARIABLE} names no clone of zarrs"),
]


@pytest.fixture(scope="module")
def kept(state_directory, rust_reader):
    """The rows of zarrs' main branch in this session, built in a state directory that outlives it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zarr-cloud-bench" / "zarrs-main"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(cache))
        crates.keep_main()
    link = state_directory / "crates"
    link.symlink_to(cache / "crates")
    yield
    link.unlink()


@pytest.fixture(scope="module")
def target(embedded_store):
    create("--preset", "tiny")
    return resolve("embedded")


@pytest.fixture(scope="module")
def workers(kept):
    processes = {name: WorkerProcess(reader_class(name)) for engine in ENGINES for name in (engine, f"{engine}+main")}
    by_threads = Given({}, {"sync_threads": 3})
    for main in ("", "+main"):
        processes[BLOCKING + main] = WorkerProcess(reader_class("zarrs" + main), {}, by_threads)
    yield processes
    for process in processes.values():
        process.stop()


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_arrays_equal_zarr_pythons(target, workers, case):
    demand_the_truth(target, {name: worker for name, worker in workers.items() if name.endswith("+main")}, case)


@pytest.mark.parametrize("engine", [*ENGINES, BLOCKING])
@pytest.mark.parametrize("dataset", ["tiny/small", "tiny/large"])
@pytest.mark.parametrize(
    ("pattern", "asked"),
    [
        ("whole_array", {}),
        ("chunks_of_one_shard", {"gap": 1}),
        ("chunks_of_many_shards", {"shards": 4}),
        ("random_crops", {"crop": (2, 20, 20), "crops": 6, "concurrent_reads": 1}),  # else what they share is chance
    ],
)
def test_requests_and_bytes_are_those_of_the_release(target, workers, engine, dataset, pattern, asked):
    workload = create_workload(pattern, target, dataset=dataset, parameters=Parameters(**asked))
    counts = {}
    for name in (engine, f"{engine}+main"):
        versions = workers[name].open(workload, timeout=60)["versions"]
        assert ("zarrs_commit" in versions) == name.endswith("+main")
        counts[name] = workers[name].ask({"op": "sample"}, timeout=60)["timed"]["request_counts"]
    assert counts[f"{engine}+main"] == counts[engine]


@pytest.mark.parametrize(("chunks", "more"), [(1, 10), (4, 0)])
def test_only_where_a_shard_is_one_chunk_it_is_asked_for_once_more(target, workers, chunks, more):
    """Ten whole chunks, each in a shard of its own: main asks whether a shard of which all is wanted exists."""
    case = {
        "chunk": (1,), "shard": (chunks,), "shape": (20 * chunks,), "reads": [((0, 20 * chunks, 2 * chunks),)],
        "dtype": "uint16", "codecs": "zstd", "endian": "little", "transposed": False, "index_at": "end",
        "outer": False, "holes": "none", "fill": 0, "seed": 1,
    }  # fmt: skip
    key = f"main/{uuid.uuid4().hex}"
    asked = workload_of(target, key, case, [write(target, key, case)[:: 2 * chunks]])
    heads = {}
    for name in ("zarrs", "zarrs+main"):
        workers[name].ask({"op": "open", "workload": asked}, timeout=60)
        heads[name] = workers[name].ask({"op": "sample"}, timeout=60)["timed"]["request_counts"]["head_requests"]
    assert heads["zarrs+main"] - heads["zarrs"] == more


@pytest.mark.parametrize("pattern", ["whole_array", "chunks_of_one_shard"])
@pytest.mark.parametrize("engine", ENGINES)
def test_timelines_hold_every_decode(target, kept, engine, pattern):
    workload = create_workload(pattern, target, parameters=Parameters())
    timeline = record_timeline(f"{engine}+main", workload, pairs=0)
    assert timeline.valid.failures == []
    assert len(timeline.chunks) == workload.wanted_chunks
    assert all(chunk.decode_start_ns < chunk.decoded_ns for chunk in timeline.chunks)

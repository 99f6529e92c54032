"""`zcb train`: batches from the embedded store, by every arm, with what was counted around them."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import psutil
import pytest
from click.testing import CliRunner

from harness.asv import fed
from harness.cli import zcb
from harness.errors import MeasurementError, StoreError
from harness.paths import ROOT
from harness.results import records
from harness.results import timelines as kept_timelines
from harness.store.control import FaultRule
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.timeline import model as timelines
from harness.train import report
from harness.train.conductor import FED, Plan, train
from harness.train.names import CACHE_POOL, LOADINGS, MEMORY, names
from harness.workload import training as trainings
from harness.workload.selections import wanted_chunks
from setup_data import presets, repository, write
from setup_data.bucket import ensure_bucket

SHAPE = ["--crop", "3x20x20", "--epochs", "2", "--batches", "6", "--batch", "3", "--ahead", "2"]
SHAPE += ["--concurrent-reads", "3"]
SAMPLES = 6 * 3


@pytest.fixture(scope="module")
def target(embedded_store, rust_reader):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_PRESET", "tiny")
        found = resolve("embedded")
        ensure_bucket(found)
        for spec in presets.specs("tiny", ("small", "small-morton", "large")):
            write.write(open_store(found), spec)
            repository.write(found, spec)
        yield found


@pytest.fixture(scope="module")
def listed(target, tmp_path_factory):
    file = tmp_path_factory.mktemp("train") / "tr.json"
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *SHAPE, "-o", str(file)])
    assert made.exit_code == 0, made.output
    return file


@pytest.mark.parametrize(("batches", "warned"), [(15, True), (16, False)])
def test_an_epoch_that_arms_would_refuse_is_warned_of_when_it_is_written(target, tmp_path, batches, warned):
    asked = ["--dataset", "tiny/small", "--batch", "4", "--batches", str(batches), "-o", str(tmp_path / "tr.json")]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *asked])
    assert made.exit_code == 0, made.output
    warnings = [line for line in made.stderr.splitlines() if "will refuse it" in line]
    assert len(warnings) == warned
    if warned:
        assert "8 batches may be ready with the first one: an epoch of 15 is too short" in warnings[0]
        assert warnings[0].endswith("it needs 16 (--batches)")


def trained(file, *options):
    done = CliRunner().invoke(zcb, ["train", str(file), *options, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_every_arm_feeds_the_same_samples(listed):
    told = trained(listed, "--arm", "all", "--step-ms", "5", "--no-feed")
    assert told["step_ms"] == 5
    assert [each["arm"] for each in told["arms"]] == names()
    has_torch = find_spec("torch") is not None
    for each in told["arms"]:
        if each["arm"] in LOADINGS and (not has_torch or LOADINGS[each["arm"]].workers > 2):
            assert ("may be ready with the first one" if has_torch else "torch cannot be imported") in each["na"]
            assert (each["samples_per_second"], each["epochs"], each["verified"]) == (None, [], None)
            continue
        assert (each["na"], each["error"]) == (None, None), each
        assert each["verified"] is True
        lead = max(1, LOADINGS[each["arm"]].workers) if each["arm"] in LOADINGS else 3
        assert [epoch["samples"] for epoch in each["epochs"]] == [SAMPLES - 3 * lead] * 2, each["arm"]
        assert 0 < each["utilisation"] <= 1
        assert each["wait_p50_seconds"] <= each["wait_p95_seconds"] <= each["wait_p99_seconds"]
        assert each["samples_per_second_without_step"] > 0
        assert each["peak_rss_bytes"] > 0
        assert each["accelerators_fed"] is None
    by_arm = {each["arm"]: each for each in told["arms"]}
    assert by_arm["dask"]["cpu_seconds_per_1000_samples"] > 0  # the kernel tells it in ticks of 10 ms
    assert by_arm[MEMORY]["requests_per_sample"] == 0
    for name, each in by_arm.items():
        if name not in (MEMORY, CACHE_POOL) and each["na"] is None:
            assert each["requests_per_sample"] >= 2, name
            if name == "zarrs-planned":  # small shards come whole, in one request for each data set
                assert each["index_requests_per_sample"] == 0
            else:
                assert each["index_requests_per_sample"] >= 1, name
            assert {epoch["index"] for epoch in each["epochs"]} == {"cold"}


def test_an_arm_that_keeps_chunks_says_so(target, tmp_path):
    file = tmp_path / "tr.json"
    one_at_a_time = ["--concurrent-reads", "1"]  # else a chunk may be fetched once for several samples under way
    shape = ["--crop", "3x20x20", "--epochs", "3", "--batches", "12", "--batch", "8", *one_at_a_time]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *shape, "-o", str(file)])
    assert made.exit_code == 0, made.output
    arms = ["--arm", f"tensorstore,{CACHE_POOL}", "--no-feed"]
    plain, pooled = trained(file, *arms)["arms"]
    assert plain["kept_share"] < 0.3 < 0.6 < pooled["kept_share"]
    assert plain["reread_kept_share"] == 0 < 0.9 < pooled["reread_kept_share"]
    assert [one["keeps_data"] for one in (plain, pooled)] == [False, True]
    assert [one["settings"] for one in (plain, pooled)] == [{}, {"cache_pool.total_bytes_limit": 2**30}]
    assert [one["verified"] for one in (plain, pooled)] == [True, True]
    shown = CliRunner().invoke(zcb, ["train", str(file), *arms]).stdout
    assert f"{CACHE_POOL}: it keeps data: its last epoch fetched" in shown
    assert "tensorstore: it keeps" not in shown


def test_one_batch_is_recorded(listed, tmp_path):
    file = tmp_path / "batch.json"
    options = ["--arm", "zarrs-planned", "--timeline", str(file)]
    done = CliRunner().invoke(zcb, ["train", str(listed), *options])
    assert done.exit_code == 0, done.output
    timeline, training = timelines.load(file), trainings.load(listed)
    assert timeline.valid.ok
    assert timeline.workload["parameters"]["crops"] == training.batch == 3
    assert timeline.workload["reads"] == [[list(axis) for axis in read] for read in training.workloads[0].reads[:3]]
    wanted = {
        chunk for read in training.workloads[0].reads[:3] for chunk in wanted_chunks(training.workloads[0].array, read)
    }
    assert {tuple(one.chunk) for one in timeline.chunks} == wanted


def test_asv_keeps_a_timeline_of_a_batch(listed, tmp_path, monkeypatch):
    monkeypatch.setenv(records.FOLDER_VARIABLE, str(tmp_path / "results" / "box" / "passes"))
    monkeypatch.setenv("ASV_COMMIT", "f" * 40)
    monkeypatch.setenv("ASV_ENV_NAME", "virtualenv-py3.13")
    fed.record_a_batch(["zarrs-planned"], trainings.load(listed).first_batch())
    conf = SimpleNamespace(results_dir="results", repo="nowhere", build_command=["true"])
    (kept,) = kept_timelines.of(conf, tmp_path)
    assert (kept.read, kept.timeline.reader) == (kept_timelines.BATCH_READ, "zarrs-planned")


ASV_PROCESS = """
import json
from harness.asv import fed
fed._CROP = (3, 20, 20)  # `tiny` has none of the size that is measured
found = fed.run_pass(["memory", "zarr-python+obstore", "zarrs-planned"])
print(json.dumps({arm: cell for (arm,), cell in found.items()}))
"""
"""What benchmarks/training.py does in asv's process."""


@pytest.mark.slow
def test_asv_tracks_a_loop_that_is_long_enough_for_its_arms(target):
    """Its epochs are no shorter than an arm takes, and each arm has every metric."""
    done = subprocess.run(
        [sys.executable, "-c", ASV_PROCESS],
        cwd=ROOT,
        env={
            **os.environ,
            "ZCB_SAMPLES": "1",
            "ZCB_TARGET": "embedded",
            "ZCB_PRESET": "tiny",
            "ZCB_READERS": "zarr-python+obstore,zarrs-planned",  # as `make bench` names them: `memory` is none
        },
        stdout=subprocess.PIPE,
        check=True,
    )
    cells = json.loads(done.stdout.splitlines()[-1])
    metrics = {metric.key for metric in fed.METRICS}
    assert {arm: set(cell) for arm, cell in cells.items()} == dict.fromkeys(
        ["memory", "zarr-python+obstore", "zarrs-planned"], metrics
    )
    assert all(len(values) == 1 for cell in cells.values() for values in cell.values())


@pytest.mark.parametrize("arms", ["memory", "tensorstore,zarrs-planned", CACHE_POOL])
def test_what_cannot_be_recorded_as_one_batch_is_said(listed, tmp_path, arms):
    options = ["--arm", arms, "--timeline", str(tmp_path / "t.json")]
    found = CliRunner().invoke(zcb, ["train", str(listed), *options], standalone_mode=False).exception
    assert found.exit_code == 2
    assert "a timeline is of one arm that is a reader" in str(found)


def test_other_steps_and_the_requests_of_an_epoch_are_told(target, tmp_path):
    file = tmp_path / "tr.json"
    shape = ["--crop", "3x20x20", "--epochs", "2", "--batches", "8", "--batch", "3", "--ahead", "1"]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *shape, "-o", str(file)])
    assert made.exit_code == 0, made.output
    arms = "tensorstore,zarrs-planned,memory"
    told = trained(file, "--arm", arms, "--step-ms", "10", "--other-step-ms", "2", "--runs", "2", "--no-feed")
    for each in told["arms"]:
        assert [one["step_ms"] for one in each["by_step"]] == [2, 10]
        assert each["by_step"][1]["utilisation"] == each["utilisation"]
        drawn = [epoch["in_flight"] is not None for epoch in each["epochs"]]
        assert drawn == [False, True, False, False], each["arm"]  # the first run's last epoch
        (epoch,) = (epoch for epoch in each["epochs"] if epoch["in_flight"] is not None)
        assert len(epoch["steps"]) == len(epoch["waits"]) == 8 - 2  # two batches are made at the same time
        assert sum(epoch["steps"]) + sum(epoch["waits"]) == pytest.approx(epoch["seconds"])
        if each["arm"] == MEMORY:
            assert set(epoch["in_flight"]) == {0}
        else:
            assert max(epoch["in_flight"]) > 0, each["arm"]


@pytest.mark.skipif(find_spec("torch") is None, reason="no torch: pip install torch")
def test_worker_processes_feed_too_and_none_is_left(target, tmp_path):
    file = tmp_path / "tr.json"
    shape = ["--crop", "3x20x20", "--epochs", "2", "--batches", "12", "--batch", "2", "--ahead", "4"]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *shape, "-o", str(file)])
    assert made.exit_code == 0, made.output
    told = trained(file, "--arm", "dataloader-2-spawn,dataloader-2-forkserver", "--step-ms", "0")
    for each in told["arms"]:
        assert each["verified"] is True, each
        assert [epoch["samples"] for epoch in each["epochs"]] == [(12 - 4) * 2] * 2
    ours = [p for p in psutil.process_iter(["cmdline"]) if "harness.train.worker" in " ".join(p.info["cmdline"] or ())]
    assert ours == []


def test_a_warm_index_is_fetched_in_the_first_epoch_only(target, tmp_path):
    file = tmp_path / "tr.json"
    one_shard = ["--crop", "2x16x16", "--epochs", "2", "--batches", "12", "--batch", "8", "--index", "warm"]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *one_shard, "-o", str(file)])
    assert made.exit_code == 0, made.output
    told = trained(file, "--arm", "zarr-python+obstore,zarrs-planned,zarrs,tensorstore", "--step-ms", "0")
    *able, tensorstore = told["arms"]
    assert len(able) == 3
    for each in able:
        cold, warm = each["epochs"]
        assert cold["index_requests"] > 0 == warm["index_requests"], each["arm"]
        assert [cold["index"], warm["index"]] == ["cold", "warm"]
        assert warm["requests"] > 0
    assert "no public way to keep shard indexes" in tensorstore["na"]


def test_two_data_sets_give_aligned_crops(target, tmp_path):
    file = tmp_path / "tr.json"
    both = ["--dataset", "small", "--dataset", "small-morton"]
    made = CliRunner().invoke(zcb, ["workload", "training", "--target", "embedded", *both, *SHAPE, "-o", str(file)])
    assert made.exit_code == 0, made.output
    told = trained(file, "--arm", "zarr-python+obstore,zarrs-planned", "--step-ms", "0")
    for each in told["arms"]:
        assert each["verified"] is True, each
        assert each["requests_per_sample"] >= 4


def test_the_shortest_step_that_is_fed_is_found(listed):
    told = trained(listed, "--arm", "tensorstore", "--step-ms", "20")  # steps of RAM's size drown in a busy machine
    (found,) = told["arms"]
    rate = found["samples_per_second_without_step"]
    assert 0 < found["accelerators_fed"] < 0.020 / (FED * 3 / rate)  # no step is shorter than what three samples take
    assert found["accelerators_fed_by_run"] == [found["accelerators_fed"]]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--arm", "memry"], "did you mean 'memory'?"),
        (["--arm", "memory", "--step-ms", "-1"], "-1"),
        (["--arm", "memory", "--runs", "0"], "0 is not in the range"),
        (["--arm", "memory", "--step", "gpu", "--step-ms", "5"], "--step-ms is a pause's"),
    ],
)
def test_bad_use_is_said(listed, arguments, complaint):
    found = CliRunner().invoke(zcb, ["train", str(listed), *arguments], standalone_mode=False).exception
    assert found.exit_code == 2
    assert complaint in str(found)


def test_without_torch_there_is_no_step_on_a_gpu(listed, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    options = ["--arm", "memory", "--step", "gpu"]
    found = CliRunner().invoke(zcb, ["train", str(listed), *options], standalone_mode=False).exception
    assert found.exit_code == 2
    assert "a step on a GPU needs torch" in str(found)


def test_a_program_in_rust_has_no_step_on_a_device(listed):
    (row,) = train(trainings.load(listed), ["zarrs-planned"], Plan(step_ms=0, device="cpu", feeds=False))
    assert row.na == "its batches stay in a process without torch: no step on a device can use them"
    assert row.epochs == []


@pytest.mark.skipif(find_spec("torch") is None, reason="no torch: pip install '.[torch]'")
def test_a_step_on_a_device_is_measured_as_it_is(listed):
    training = trainings.load(listed)
    (row,) = train(training, ["tensorstore"], Plan(step_ms=0, device="cpu", feeds=False))
    assert (row.na, row.error) == (None, None)
    told = json.loads(report.report(training, [row], 0, "cpu"))
    assert (told["step"], told["step_ms"]) == ("cpu", None)
    (arm,) = told["arms"]
    assert arm["step_seconds"] > 0
    assert 0 < arm["utilisation"] < 1
    assert arm["utilisation_by_events"] is None  # a CPU has no events
    assert arm["verified"] is True


def test_a_read_pattern_is_no_training_workload(target, tmp_path):
    file = tmp_path / "w.json"
    made = CliRunner().invoke(zcb, ["workload", "chunks_of_one_shard", "--target", "embedded", "-o", str(file)])
    assert made.exit_code == 0, made.output
    found = CliRunner().invoke(zcb, ["train", str(file), "--arm", "memory"], standalone_mode=False).exception
    assert "is not a training workload: `zcb workload training` makes one" in str(found)


def test_a_store_in_trouble_costs_a_row_its_figures(listed, control):
    control.add_fault(FaultRule(fault="missing", count=0))
    try:
        found = CliRunner().invoke(
            zcb, ["train", str(listed), "--arm", "zarr-python+obstore", "--no-feed"], standalone_mode=False
        )
    finally:
        control.clear_faults()
    assert isinstance(found.exception, StoreError | MeasurementError)
    assert found.stdout == ""

"""``zcb limit`` from the outside: four shapes of the limit on a store with a service time."""

import json
import statistics

import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import AnswerIsNoError, BadUseError
from harness.machine.cpu import cores
from harness.store import lifecycle
from harness.store.lifecycle import StoreSettings
from harness.targets.resolve import resolve
from harness.workload import files
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create


@pytest.fixture
def work(own_state, rust_reader, tmp_path):
    """Write a workload of 8 requests, each of which takes 20 ms, with so many in flight."""
    lifecycle.start(StoreSettings(profile="s3"))
    create("--preset", "tiny")

    def write(in_flight):
        made = create_workload(
            "chunks_of_many_shards",
            resolve("embedded"),
            dataset="tiny/small",
            parameters=Parameters(shards=4, gap=0),
            in_flight=in_flight,
        )
        path = tmp_path / "w.json"
        path.write_bytes(workloads.encode(made))
        return path

    return write


def run(*arguments):
    return CliRunner().invoke(zcb, ["limit", *map(str, arguments)])


def test_one_in_flight_is_no_plateau(work):
    done = run(work(1), "--json")
    assert isinstance(done.exception, AnswerIsNoError), done.output
    told = json.loads(done.stdout)
    shapes = told["shapes"]
    assert [(one["in_flight"], one["threads"]) for one in shapes] == [(1, cores()), (2, 2 * cores())] * 2
    for one in shapes:
        assert [sample["max_in_flight"] for sample in one["samples"]] == [one["in_flight"]] * 6
    assert [told["plateaus"][bodies]["holds"] for bodies in ("kept", "thrown away")] == [False, False]
    assert 0.4 < told["plateaus"]["kept"]["doubled_over_single"]["median"] < 0.65  # half as many waits


def test_what_is_thrown_away_was_fetched(work):
    path = work(100)
    wanted = files.load(path).wanted_bytes
    done = run(path, "--json")
    assert done.exception is None, done.output
    told = json.loads(done.stdout)
    for shape in told["shapes"]:
        assert shape["variant"].startswith(shape["reader"])
        assert all(sample["fetched_bytes"] >= wanted for sample in shape["samples"])
    assert 0.5 < told["kept_over_thrown_away"]["median"] < 2
    assert statistics.median(s["seconds"] for s in told["shapes"][0]["samples"]) > 0.02


def test_the_terminal_shows_shapes_and_answers(work, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = run(work(4), "--samples", 2)
    assert done.exception is None, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines[:-3])) <= 80
    shown = [line.split()[0] for line in lines[:-3] if line.strip().startswith(("kept", "thrown"))]
    assert shown == ["kept"] * 2 + ["thrown"] * 2
    assert lines[-3].startswith("Kept: more --samples tell whether it is on a plateau")
    assert "(n=2: too few for an interval)" in lines[-1]


def test_a_workload_of_few_requests_tells_of_no_plateau(work):
    done = run(work(100), "--samples", 2)
    assert done.exception is None, done.output
    assert done.stdout.splitlines()[-3].startswith("Kept: unknown: the workload has too few requests")


def test_the_first_round_is_measured_whatever_the_patience(work):
    done = run(work(100), "--samples", 2, "--patience", 0, "--json")
    assert done.exception is None, done.output
    assert [len(shape["samples"]) for shape in json.loads(done.stdout)["shapes"]] == [1] * 4


def test_more_than_may_be_in_flight_is_refused(work):
    done = run(work(6000))
    assert isinstance(done.exception, BadUseError)
    assert "twice 6000 in flight are more than 10000" in str(done.exception)

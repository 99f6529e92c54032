"""Whole comparisons on the embedded store: real processes, real reads, small data."""

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import AnswerIsNoError, MeasurementError
from harness.paths import ROOT, state_dir
from harness.verdict import run as runs
from harness.verdict.model import Verdict
from harness.verdict.sides import Side
from harness.verdict.statistics import PAIRS_PER_BLOCK, Answer
from harness.workload.cases import Case
from harness.workload.patterns import Parameters
from tests.support.data import create
from tests.support.waiting import wait_for
from tests.support.workloads import write_cases

SLOW = """
import time
import harness.readers.zarr_python as readers
plain = readers.ZarrPython.read
def read(self):
    arrays = plain(self)
    {what}
    return arrays
readers.ZarrPython.read = read
"""
"""What a side's processes import first: the reader under test, changed."""

ONE = Case(pattern="chunks_of_one_shard", dataset="small", parameters=Parameters(gap=1), uses=frozenset({"verdict"}))
ARGUMENTS = ["--patterns", "chunks_of_one_shard", "--readers", "zarr-python+obstore"]


@pytest.fixture(scope="module")
def store(embedded_store):
    create("--preset", "tiny")


@pytest.fixture
def one_workload(store, monkeypatch, tmp_path):
    write_cases(tmp_path / "workloads.toml", ONE)
    monkeypatch.setenv("ZCB_WORKLOADS", str(tmp_path / "workloads.toml"))


@pytest.fixture
def changed_head(monkeypatch, tmp_path):
    """Let head's processes run the reader with a change."""

    def change(what):
        (tmp_path / "sitecustomize.py").write_text(SLOW.format(what=what))
        prepare = runs.prepare

        def prepared(request):
            made = prepare(request)
            path = os.pathsep.join([str(tmp_path), made["head"].environment["PYTHONPATH"]])
            head = Side(label="head", detail="changed", environment=made["head"].environment | {"PYTHONPATH": path})
            return made | {"head": head}

        monkeypatch.setattr(runs, "prepare", prepared)

    return change


def compare(*arguments):
    return CliRunner().invoke(zcb, ["compare", "=", "=", *ARGUMENTS, *arguments])


def report(done) -> Verdict:
    return msgspec.json.decode(done.stdout, type=Verdict)


def test_a_setting_that_stops_merging_shows_in_the_counts_even_where_times_tie(one_workload):
    done = compare("--head-config", "array.sharding_coalesce_max_gap_bytes=-1", "--seconds", "5", "--json")
    verdict = report(done)
    before_the_first, _, _ = done.stderr.partition("zarr-python+obstore, ")
    assert "1 comparison, at most 5 s of pairs, beside the start of each" in before_the_first
    (finding,) = verdict.findings
    assert finding.counts["requests"].base == 2
    assert finding.counts["requests"].head == 5
    assert finding.counts["index_requests"].base == finding.counts["index_requests"].head == 1
    assert finding.plan is not None
    assert (finding.plan.only_base, finding.plan.only_head) == (1, 4)
    assert {side: len(one.requests) for side, one in finding.timelines.items()} == {"base": 2, "head": 5}
    assert verdict.complete
    assert all(pair.base.verified and pair.head.verified for pair in finding.pairs)


def test_pairs_alternate_in_random_order_and_processes_are_replaced(one_workload):
    # So large an effect is ruled out at the first look, however long a busy machine takes until then.
    (finding,) = report(compare("--seconds", "300", "--json", "--smallest", "100")).findings
    pairs = finding.pairs
    assert len(pairs) > 16
    assert 0.1 < sum(pair.head_first for pair in pairs) / len(pairs) < 0.9
    assert [pair.block for pair in pairs] == [number // PAIRS_PER_BLOCK for number in range(len(pairs))]
    assert finding.ratio is not None
    assert finding.low is not None
    assert finding.high is not None
    assert finding.low <= finding.ratio <= finding.high
    assert finding.plan is not None
    assert finding.plan.same


def test_a_slower_head_is_slower_and_the_exit_code_says_so(one_workload, changed_head, tmp_path):
    changed_head("time.sleep(0.2)")  # far above what a busy machine adds to both sides
    done = compare("--json", "--markdown", str(tmp_path / "c.md"), "--html", str(tmp_path / "v.html"))
    assert isinstance(done.exception, AnswerIsNoError)
    verdict = report(done)
    assert verdict.answer is Answer.SLOWER
    assert (verdict.findings[0].low or 0) > 1.2
    comment = (tmp_path / "c.md").read_text()
    assert comment.splitlines()[0].startswith("**🔴")
    assert "slower" in comment.splitlines()[0]
    page = (tmp_path / "v.html").read_text()
    assert page.count('<circle class="dot slower"') == len(verdict.findings[0].pairs)
    assert page.count("data:image/svg+xml") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("raise ValueError('broken chunk')", "head failed: ValueError: broken chunk"),
        ("arrays[0][...] += 1", "WRONG DATA (head failed): chunk"),
        ("raise SystemExit(7)", "head failed:"),
    ],
)
def test_a_side_that_fails_is_not_called_slower(one_workload, changed_head, what, reason):
    changed_head(what)
    done = compare("--json")
    assert isinstance(done.exception, MeasurementError)
    verdict = report(done)
    (finding,) = verdict.findings
    assert finding.error is not None
    assert reason in finding.error
    assert finding.answer is Answer.UNKNOWN
    assert finding.ratio is None
    assert verdict.answer is Answer.UNKNOWN


def test_an_interrupted_comparison_keeps_what_it_has_and_marks_it(store, tmp_path):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "harness.cli", "compare", "=", "=", "--patterns", "chunks_of_one_shard"]
    with subprocess.Popen(
        [*command, "--smallest", "0.1", "--seconds", "300"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that were started in the background ignore the signal, and would hand that down.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if " blocks, " in line:
                break
        process.send_signal(signal.SIGINT)
        shown, said = process.communicate(timeout=60)
    assert process.returncode == 130
    path = Path(next(line for line in said.splitlines() if "kept in" in line).rpartition(" ")[2])
    verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    assert not verdict.complete
    assert verdict.findings[0].pairs
    assert verdict.answer is Answer.UNKNOWN
    assert "interrupted" in shown


ENDLESS = """
import os, pathlib, time
def build_wheel(*_):
    pathlib.Path(os.environ["BUILDING"]).write_text(str(os.getpid()))
    time.sleep(600)
"""


def test_a_comparison_that_is_terminated_while_a_side_is_built_leaves_no_program_and_no_folder(store, tmp_path):
    tree, building = tmp_path / "tree", tmp_path / "building"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(
        '[project]\nname = "zarr"\nversion = "9.9"\n'
        '[build-system]\nrequires = []\nbuild-backend = "endless"\nbackend-path = ["."]\n'
    )
    (tree / "endless.py").write_text(ENDLESS)
    subprocess.run(["git", "init", "--quiet", tree], check=True)
    command = [sys.executable, "-m", "harness.cli", "compare", "=", tree, *ARGUMENTS]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "BUILDING": str(building)}) as process:
        wait_for(lambda: building.exists() and building.read_text())
        builder = psutil.Process(int(building.read_text()))
        process.terminate()
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    wait_for(lambda: not builder.is_running() or builder.status() == psutil.STATUS_ZOMBIE)
    assert not list((state_dir() / "sides").glob(".making-*"))

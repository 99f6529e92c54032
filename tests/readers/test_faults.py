"""What goes wrong between a reader and a store, for every reader: right after asking again, or failed with the cause.

``ZCB_FAULT_TABLE=docs/reliability.md pytest tests/readers/test_faults.py`` writes what happened into that file.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from harness.asv.tracked import grid, run_pass
from harness.cli import zcb
from harness.errors import StoreError
from harness.measure.conductor import Conductor, Plan
from harness.paths import ROOT
from harness.readers import benchmarked
from harness.results.sample import FLAG_FAULTS, NETWORK_LIMIT
from harness.store import lifecycle, state
from harness.store.control import ERROR_FAULTS, FAULTS, FaultRule, StoreControl
from harness.store.lifecycle import StoreSettings
from harness.store.lock import MeasurementLock
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support import fault_table
from tests.support.data import create
from tests.support.fault_table import FAILED, LOST, NOT_DECODED, RECORDED_WRONG, RIGHT, FaultTable

READERS = benchmarked()

DOC = ROOT / "docs" / "reliability.md"
COLUMNS = [*READERS, NETWORK_LIMIT]
HANG_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
"""For what takes a moment on an idle machine."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row of the table: a fault, and what may come of it."""

    title: str
    rule: FaultRule | None
    cause: str = "(?!)"
    """What a failing reader, the truth or the store says of the cause, besides the list of injected faults; a pattern
    that nothing matches where none may fail."""
    fails: bool = False
    """Whether no reader that decodes can be right."""
    deadline: float | None = None


WRONG = "is wrong: its decoded bytes|cannot be decoded|[Zz]std|frame|[Dd]ecompress|DATA_LOSS"
CASES = [
    Case(title="none", rule=None),
    Case(title="503 SlowDown, three in a row", rule=FaultRule(fault="slow-down", count=3)),
    Case(title="500 InternalError", rule=FaultRule(fault="internal-error")),
    Case(title="connection reset before the answer", rule=FaultRule(fault="reset")),
    Case(title="connection reset in the body", rule=FaultRule(fault="reset-body")),
    Case(title="truncated body", rule=FaultRule(fault="truncate")),
    Case(title="truncated index", rule=FaultRule(fault="truncate", kind="index")),
    Case(title="corrupt byte in a chunk", rule=FaultRule(fault="corrupt"), cause=WRONG, fails=True),
    Case(
        title="corrupt byte in an index",
        rule=FaultRule(fault="corrupt", kind="index"),
        cause="[Cc]hecksum|[Dd]igest",
        fails=True,
    ),
    Case(
        title="wrong range",
        rule=FaultRule(fault="wrong-range"),
        cause=f"[Rr]equested|byte range|{WRONG}",
        fails=True,
    ),
    Case(
        title="no answer, deadline of 3 s",
        rule=FaultRule(fault="hang"),
        cause=r"no answer within 3 s \(requests that the store has not answered: 1",
        fails=True,
        deadline=HANG_SECONDS,
    ),
    Case(title="slow trickle", rule=FaultRule(fault="trickle")),
    Case(
        title="credentials expired in the middle",
        rule=FaultRule(fault="expired-token", first=2),
        cause="403|ExpiredToken",
        fails=True,
    ),
    # The discarded execution meets it too where the limit before it asked for no index.
    Case(title="missing shard", rule=FaultRule(fault="missing", kind="index"), cause="[12] x 404", fails=True),
]
KILLED = "its process killed"
TITLES = [*(case.title for case in CASES), KILLED]
PROCESSES = {
    "conductor": "`zcb read` killed (SIGKILL) in the middle",
    "store": "the store killed (SIGKILL) in the middle",
    "two": "two `zcb read` at once on one checkout",
    "workload": "`zcb workload` begins while something is measured",
    "asv": "`asv run` killed (SIGKILL) in the middle of a pass",
    "disk": "the disk full at `zcb data create`",
}


@pytest.fixture(scope="module")
def table() -> Iterator[FaultTable]:
    """What happened; written where the environment says, when every test has put its part in."""
    collected = FaultTable(COLUMNS)
    yield collected
    file = os.environ.get("ZCB_FAULT_TABLE")
    if file and list(collected.rows) == TITLES and len(collected.processes) == len(PROCESSES):
        collected.write(Path(file))


@pytest.fixture(scope="module")
def workload(embedded_store):
    """Four chunks that lie side by side in each of four shards: every byte that is fetched is wanted."""
    create("--preset", "tiny", "--as", "icechunk")
    asked = Parameters(shards=4, gap=0)
    return create_workload("chunks_of_many_shards", resolve("embedded"), dataset="tiny/large", parameters=asked)


@pytest.fixture
def faults(control):
    """Set faults; none is left behind."""
    yield control.add_fault
    control.clear_faults()


class Troubled(Conductor):
    """Sets a fault once arrays are open, and kills the worker of each reader in the middle of its sample, if asked to.

    To open an array is one small request of metadata for some readers, and several of other objects for Icechunk.
    """

    lethal = _is_settled = False
    rule: FaultRule | None = None

    def _execute(self, row, candidate, probe):
        self._is_settled = row.candidate is not None  # who measures: a candidate that dies before leaves it to others
        return super()._execute(row, candidate, probe)

    def _warm_up(self, row, candidate):
        self._set_rule()
        super()._warm_up(row, candidate)

    def _sample(self, row, candidate, probe, workload=None):
        self._set_rule()
        if not (self.lethal and self._is_settled):
            return super()._sample(row, candidate, probe, workload)
        with StoreControl(state.require_running().control) as control:
            control.add_fault(FaultRule(fault="hang", count=0))
            threading.Timer(0.2, os.kill, (self._workers[candidate.reader].pid, signal.SIGKILL)).start()
            try:
                return super()._sample(row, candidate, probe, workload)
            finally:
                control.clear_faults()

    def _set_rule(self):
        if self.rule is not None:
            rule, self.rule = self.rule, None
            with StoreControl(state.require_running().control) as control:
                control.add_fault(rule)


@pytest.fixture(scope="module")
def measure(workload, rust_reader):
    """Measure one sample of every reader: reader -> row. One conductor meets all faults, as in a long pass."""
    with Troubled(READERS, plan=Plan()) as conductor:

        def run(*, rule=None, deadline=None, lethal=False):
            conductor.rule = rule
            conductor._plan = Plan(samples=1, trials=1, with_faults=True, deadline_seconds=deadline)
            conductor.lethal = lethal
            return {row.reader: row for row in conductor.measure(workload)}

        yield run


@pytest.fixture(scope="module")
def plain(measure):
    """The rows of every reader without faults."""
    return measure()


def outcome(case, reader, sample):
    """Say what a sample is: the conductor verified it, so a fault that cannot be made up for should have failed it."""
    if not sample.verified or (case.fails and reader != NETWORK_LIMIT):
        return RECORDED_WRONG
    if case.fails:
        return NOT_DECODED
    return RIGHT + (f", {sample.retries} retries" if sample.retries else "").replace("1 retries", "1 retry")


@pytest.mark.usefixtures("faults")  # which ends them
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.replace(" ", "-"))
def test_a_fault_is_made_up_for_or_fails_the_reader_with_its_cause(case, measure, plain, table):
    rows = plain if case.rule is None else measure(rule=case.rule, deadline=case.deadline)
    for reader in COLUMNS:
        row = rows[reader]
        assert row.na is None, (reader, row.na)
        if row.error is None and not row.samples:
            table.note(case.title, reader, LOST)
        assert (row.error is None) == (len(row.samples) >= 1), reader
        if row.error is not None:
            table.note(case.title, reader, FAILED, row.error)
            own = row.error.partition("faults injected")[0]
            assert re.search(case.cause, own), (reader, row.error)
            continue
        for sample in row.samples:
            told = outcome(case, reader, sample)
            table.note(case.title, reader, told)
            assert told != RECORDED_WRONG, (reader, sample)
            check_counts(case, row, sample, plain[reader].samples[0].requests)


def check_counts(case, row, sample, without_faults):
    reader = row.reader
    if case.rule is None:
        assert (sample.faults, FLAG_FAULTS in sample.flags) == (0, False), reader
        return
    if reader == NETWORK_LIMIT and case.rule.kind == "index" and row.variant.endswith("whole"):
        assert sample.faults == 0  # a shard that comes whole brings its index along
        return
    assert sample.faults == case.rule.count, reader
    assert FLAG_FAULTS in sample.flags, reader
    assert sample.requests_source == "store", reader
    asked_again = case.rule.fault not in ("corrupt", "wrong-range", "trickle")
    assert sample.retries == (sample.faults if asked_again else 0), reader
    if reader != NETWORK_LIMIT:  # which may measure with another of its plans
        assert sample.requests == without_faults + sample.retries, reader


def test_a_killed_worker_costs_its_own_row(measure, control, table):
    rows = measure(lethal=True)
    for reader in COLUMNS:
        assert rows[reader].samples == [], reader
        assert "its worker died (killed by signal 9)" in rows[reader].error, reader
        table.note(KILLED, reader, FAILED, rows[reader].error)
    assert control.faults() == []


# What a person runs


def environment(**variables):
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def started(*arguments, **options):
    """Start the command as a user does."""
    command = [sys.executable, "-m", "harness.cli", *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def ended(process):
    """Return exit code, stdout and stderr."""
    out, err = process.communicate(timeout=5 * PATIENCE_SECONDS)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def until(condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def work_file(workload, tmp_path):
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(workload))
    return file


def test_read_shows_faults_and_retries(workload, work_file, faults):
    faults(FaultRule(fault="slow-down", count=2))
    done = CliRunner().invoke(zcb, ["read", "zarr-python+obstore", str(work_file), "--samples", "1"])
    assert done.exit_code == 0, done.output
    assert "the store injected faults during the sample" in " ".join(done.output.split())
    done = CliRunner().invoke(zcb, ["read", "zarr-python+obstore", str(work_file), "--samples", "1", "--json"])
    (sample,) = json.loads(done.stdout)["samples"]
    assert (sample["faults"], sample["retries"], sample["requests"]) == (2, 2, 8 + 2)
    assert FLAG_FAULTS in sample["flags"]


def test_a_failing_read_has_its_exit_code_and_says_why_in_a_line(workload, work_file, faults):
    faults(FaultRule(fault="expired-token", first=2))
    code, out, err = ended(started("read", "zarr-python+fsspec", work_file, "--samples", "1", "--json"))
    assert (code, out) == (4, "")
    line = err.strip().splitlines()[-1]
    assert line.startswith("zcb: zarr-python+fsspec: ")
    assert "1 x 403" in line


def test_no_benchmark_is_measured_on_a_store_with_faults(workload, faults, monkeypatch):
    monkeypatch.setenv("ZCB_PRESET", "tiny")
    faults(FaultRule(fault="trickle", first=10**6))
    with pytest.raises(SystemExit, match="`zcb store fault off` ends that"):
        run_pass("chunks_of_one_shard", ["zarr-python+obstore"], grid("chunks_of_one_shard").cases)


def test_a_fault_that_comes_during_a_benchmark_fails_its_row(workload, faults):
    faults(FaultRule(fault="internal-error"))
    with Conductor(["zarr-python+obstore"], plan=Plan(samples=1)) as conductor:
        rows = conductor.measure(workload)
    assert all(not row.samples and "1 x internal-error" in row.error for row in rows)


def test_faults_are_set_shown_and_ended_from_the_command_line(embedded_store, control):
    def store(*arguments):
        done = CliRunner().invoke(zcb, ["store", *arguments], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        return done

    assert control.faults() == []
    try:
        for arguments, words in [
            (["slow-down", "--first", "2", "--count", "3"], "slow-down for data request 2 and the next, 3 in all"),
            (["hang", "--kind", "index", "--every", "5", "--count", "0"], "hang for index request 1 and on every 5"),
        ]:
            done = store("fault", *arguments)
            assert done.stdout == ""
            assert done.stderr == f"zcb store: injecting {words}; `zcb store fault off` ends it\n"
        rules = [
            FaultRule(fault="slow-down", first=2, count=3),
            FaultRule(fault="hang", kind="index", every=5, count=0),
        ]
        assert control.faults() == rules
        assert "ON: slow-down for data request 2 and the next, 3 in all; hang for index" in store("status").stdout
        shown = json.loads(store("status", "--json").stdout)["faults"]
        assert shown == [msgspec.to_builtins(rule) for rule in rules]
    finally:
        store("fault", "off")
    assert control.faults() == []
    assert re.search(r"faults +off", store("status").stdout)
    code, _, err = ended(started("store", "fault", "fire"))
    assert (code, err.count("\n")) == (2, 1)


def test_faults_have_the_same_names_on_both_sides(control, faults):
    for name in FAULTS:
        faults(FaultRule(fault=name, first=10**9))
    assert [rule.fault for rule in control.faults()] == list(FAULTS)
    assert set(FAULTS) >= ERROR_FAULTS
    with pytest.raises(StoreError, match="fault must be one of slow-down, internal-error"):
        faults(FaultRule(fault="fire"))


# What happens to processes and the disk


def test_a_killed_conductor_leaves_nothing_behind(workload, work_file, faults, control, table):
    faults(FaultRule(fault="hang", count=0))
    process = started("read", "zarr-python+obstore,zarrs", work_file, "--json", start_new_session=True)
    until(lambda: control.counters().in_flight > 0)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    assert process.communicate() == ("", "")
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
    assert alive == []
    control.clear_faults()
    until(lambda: control.counters().in_flight == 0)
    code, _, err = ended(started("read", "zarr-python+obstore", work_file, "--samples", "1"))
    assert code == 0, err
    assert "waiting" not in err
    table.processes[PROCESSES["conductor"]] = "nothing printed, its workers end with it, the next run measures at once"


def test_a_killed_store_ends_the_measurement_with_its_cause(own_state, tmp_path, table):
    store = lifecycle.start(StoreSettings(profile="loopback"))
    create("--preset", "tiny", "--dataset", "large")
    made = create_workload("chunks_of_one_shard", resolve("embedded"), dataset="tiny/large", parameters=Parameters())
    (tmp_path / "w.json").write_bytes(workloads.encode(made))
    with StoreControl(store.control) as control:
        control.add_fault(FaultRule(fault="hang", count=0))
        process = started("read", "zarr-python+obstore,zarrs", tmp_path / "w.json", "--deadline", "5", "--json")
        until(lambda: control.counters().in_flight > 0)
        os.kill(store.pid, signal.SIGKILL)
        lifecycle._children.pop(store.pid).wait()
    code, out, err = ended(process)
    assert (code, out) == (3, ""), err
    assert err.strip().splitlines()[-1].startswith("zcb: the embedded store is not running")
    lifecycle.start(StoreSettings(profile="loopback"))
    assert ended(started("data", "verify", "--target", "embedded"))[0] == 0
    table.processes[PROCESSES["store"]] = (
        "`zcb read` ends with exit code 3 and says so; nothing printed; the data verify after the next start"
    )


def test_two_runs_at_once_take_turns(workload, work_file, table):
    alone = json.loads(ended(started("read", "tensorstore", work_file, "--samples", "1", "--json"))[1])["samples"]
    first = MeasurementLock()
    try:
        both = [started("read", "tensorstore", work_file, "--samples", "5", "--json") for _ in range(2)]
        for process in both:
            waits = f"zcb read: waiting for another measurement on this store (process {os.getpid()}) ..."
            assert process.stderr.readline().strip() == waits
    finally:
        first.end()
    done = [ended(process) for process in both]
    assert [code for code, _, _ in done] == [0, 0], done
    # tensorstore cannot count its requests: the other run's would be in the store's counters.
    requests = {sample["requests"] for _, out, _ in done for sample in json.loads(out)["samples"]}
    assert requests == {sample["requests"] for sample in alone}
    assert [len(json.loads(out)["samples"]) for _, out, _ in done] == [5, 5]
    table.processes[PROCESSES["two"]] = "each says that it waits for the one before, then measures; all are right"


def test_a_workload_is_made_when_no_measurement_would_count_its_requests(
    embedded_store, control, tmp_path, workload, table
):
    made = tmp_path / "made.json"
    asked = ["--target", "embedded", "--dataset", "tiny/small", "--shards", "4", "-o", made]
    measuring = MeasurementLock()
    try:
        control.mark("other")
        process = started("workload", "chunks_of_many_shards", *asked)
        waits = f"zcb workload: waiting for another measurement on this store (process {os.getpid()}) ..."
        assert process.stderr.readline().strip() == waits
        with pytest.raises(subprocess.TimeoutExpired):  # long enough to have read the indexes, did it not wait
            process.wait(timeout=2)
        assert control.since("other").requests == 0
    finally:
        measuring.end()
    code, _, err = ended(process)
    assert code == 0, err
    assert control.since("other").get_index == 4
    assert made.exists()
    table.processes[PROCESSES["workload"]] = (
        "it says that it waits, and asks the store for nothing until the measurement has ended"
    )


def test_a_killed_asv_leaves_nothing_behind(workload, embedded_store, control, tmp_path, table):
    config = asv_config(tmp_path)
    results = tmp_path / "results"
    assert ended(asv(config, tmp_path, "machine", "--yes"))[0] == 0
    measuring = ["run", "--python=same", "--set-commit-hash", commit(tmp_path), "--bench", LOOKED_UP]
    control.mark("asv")
    process = asv(config, tmp_path, *measuring, start_new_session=True)
    until(lambda: control.since("asv").get_data > 0)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
    assert alive == []
    until(lambda: control.counters().in_flight == 0)
    assert not list(results.glob("*/passes/*"))
    for file in results.rglob("*.json"):
        json.loads(file.read_bytes())
    code, out, err = ended(asv(config, tmp_path, *measuring))
    assert code == 0, out + err
    (record,) = results.glob("*/passes/*.pass")
    rows = json.loads(record.read_bytes())["rows"]
    assert {row["reader"] for row in rows} == {*MEASURED, NETWORK_LIMIT}
    assert all(row["samples"] for row in rows if not row["na"])
    table.processes[PROCESSES["asv"]] = (
        "all its processes end with it, no pass record and no broken file is left, the next run is whole"
    )


MEASURED = ("zarr-python+obstore", "xarray", "zarrs")
"""In Python, above another reader, and in Rust: their processes end each in its own way."""
LOOKED_UP = r"ChunksOfOneShard\.track_requests\('zarr.*', 'small', 0\)"
"""Of the pass, which is whole, asv asks for these, by a process each."""


def asv_config(folder):
    subprocess.run(["git", "init", "-q", "-b", "main", folder / "repo"], check=True)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(
        ["git", "-C", folder / "repo", *identity, "commit", "-q", "--allow-empty", "-m", "empty"], check=True
    )
    config = json.loads((ROOT / "asv.releases.conf.json").read_text())
    config |= {"repo": str(folder / "repo"), "benchmark_dir": str(ROOT / "benchmarks")}
    config |= {name: str(folder / name.removesuffix("_dir")) for name in ("env_dir", "results_dir", "html_dir")}
    config["matrix"] = {"env_nobuild": {"ZCB_TARGET": ["embedded:loopback"], "ZCB_PRESET": ["tiny"]}}
    file = folder / "asv.conf.json"
    file.write_text(json.dumps(config))
    return file


def commit(folder):
    done = subprocess.run(["git", "-C", folder / "repo", "rev-parse", "HEAD"], capture_output=True, check=True)
    return done.stdout.decode().strip()


def asv(config, home, *arguments, **options):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["asv", arguments[0], "--config", str(config), *arguments[1:]],
        cwd=ROOT,
        env=environment(HOME=str(home), PATH=path, ZCB_SAMPLES="1", ZCB_READERS=",".join(MEASURED)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@contextlib.contextmanager
def small_disk(folder, mebibytes):
    """Mount a file system of a few MiB; yields what gives it another size."""
    folder.mkdir()
    options = lambda size: f"size={size}m"  # noqa: E731
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options(mebibytes), "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield lambda size: subprocess.run(["mount", "-o", f"remount,{options(size)}", folder], check=True)
    finally:
        lifecycle.stop()
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_at_data_creation_is_said_and_resumed(own_state, tmp_path, table):
    with small_disk(tmp_path / "small", 2) as resize:
        lifecycle.start(StoreSettings(profile="loopback", root=str(tmp_path / "small")))
        writing = ["data", "create", "--target", "embedded", "--preset", "tiny", "--json"]
        code, out, err = ended(started(*writing))
        assert (code, out) == (3, ""), err
        assert "no storage space" in err
        assert err.count("\n") == 1
        # What is there is whole; what is not cannot be opened.
        verified = ended(started("data", "verify", "--target", "embedded"))
        assert verified[0] == 0 or "holds no datasets" in verified[2], verified
        resize(64)
        code, out, err = ended(started(*writing))
        assert code == 0, err
        reports = json.loads(out)["datasets"]
        assert any(report["skipped_shards"] or report["status"] == "already written" for report in reports)
        assert ended(started("data", "verify", "--target", "embedded", "--truth"))[0] == 0
    table.processes[PROCESSES["disk"]] = (
        "exit code 3, one line that says so; nothing unfinished can be opened; with room again it resumes and verifies"
    )


def test_the_table_of_the_documentation_is_whole():
    by_reader, by_process = fault_table.read(DOC)
    assert by_reader[0] == ["fault", *COLUMNS]
    assert [row[0] for row in by_reader[1:]] == TITLES
    assert [row[0] for row in by_process[1:]] == list(PROCESSES.values())
    for row in by_reader[1:]:
        assert all(re.match(rf"{RIGHT}|{FAILED} \[|{NOT_DECODED}", cell) for cell in row[1:]), row
    assert not any(word in DOC.read_text().split(fault_table.BEGIN)[1] for word in (RECORDED_WRONG, LOST))

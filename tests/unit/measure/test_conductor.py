"""The conductor with workers that behave and misbehave: what a failure costs, and what becomes a sample."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest

from harness import readers
from harness.asv.tracked import Cell, Key, Tracked, cell
from harness.datasets.array import ArrayInfo
from harness.machine.cpu import allowed_cores
from harness.machine.load import OtherPrograms
from harness.measure import conductor as conductors
from harness.measure import execution
from harness.measure.conductor import Conductor, Plan
from harness.measure.evidence import Probe, attach_limit
from harness.measure.execution import Candidate
from harness.measure.process import WorkerProcess
from harness.readers import tunings
from harness.readers.base import Reader
from harness.readers.settings import Setting
from harness.readers.tunings import Tuning
from harness.results.sample import FLAG_BELOW_LIMIT, FLAG_BUSY_MACHINE, NETWORK_LIMIT, THROWN_AWAY
from harness.targets.resolve import resolve
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth

WORKER = Path(__file__).parents[2] / "support" / "fake_worker.py"
ROOT = WORKER.parent.parent


def fake(how, row=None):
    class Fake(Reader):
        name = {"limit": "network-limit", "rival": "network-limit+rust"}.get(how, how)
        competes_for = NETWORK_LIMIT if how in ("limit", "rival") else row

        @classmethod
        def command(cls, environment):
            return [sys.executable, str(WORKER), how]

        def open(self, workload):
            raise NotImplementedError

        def read(self):
            raise NotImplementedError

    return Fake


@pytest.fixture
def workload(embedded_store):
    array = ArrayInfo(
        key="a", shape=(4,), chunk_shape=(1,), shard_shape=(4,), dtype="uint16", codec="none", subchunk_order="c"
    )
    return Workload(
        schema=1,
        pattern="whole_array",
        parameters=Parameters(),
        target=resolve("embedded"),
        array=array,
        in_flight=100,
        reads=(((0, 4, 1),),),
        array_bytes=8,
        wanted_chunks=4,
        wanted_bytes=8,
        wanted_shards=1,
        gap_bytes=(),
        truth=Truth(decoded_crc32c=""),
    )


@pytest.fixture
def conduct(workload, monkeypatch, logged):
    def run(*hows, limit="limit", samples=3, sessions=1, workloads=(workload,)):
        registry = {cls.name: cls for cls in map(fake, hows)} | {"network-limit": fake(limit, row=NETWORK_LIMIT)}
        monkeypatch.setattr(readers, "all_readers", lambda: registry)
        with Conductor(hows, plan=Plan(samples=samples, sessions=sessions)) as one:
            rows = {row.reader: row for row in one.measure_all(workloads)[-1]}
        return rows, logged

    return run


def test_every_sample_stands_between_two_limits_and_the_fastest_variant_counts(conduct):
    rows, _ = conduct("good", samples=4)
    assert len(rows["good"].samples) == 4
    assert len(rows["network-limit"].samples) == 5 + 3  # before the first turn of each round and after every turn
    assert {s.seconds for s in rows["network-limit"].samples} == {0.010}
    assert {s.times_slower for s in rows["good"].samples} == {2.0}
    assert all(s.verified and s.requests == 0 and s.requests_source == "store" for s in rows["good"].samples)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("dies", "its worker died (exit code 9): last words"),
        ("raises", "ValueError: broken chunk"),
        ("trusts", "its arrays were compared with nothing"),
        ("babbles", "not JSON"),
        ("forgets", "answered without a valid 'versions': missing"),
        ("odd", "answered without a valid 'versions': Expected `object`"),
        ("miscounts", "the reader counts 5 requests, the store 0"),
    ],
)
def test_a_failing_reader_costs_its_own_row_only(conduct, how, reason):
    rows, said = conduct("good", how)
    assert reason in rows[how].error
    assert rows[how].samples == []
    assert len(rows["good"].samples) == 3
    assert sum(how in line and "failed" in line for line in said) == 1


def test_a_hanging_reader_is_given_up_after_its_deadline(conduct, monkeypatch):
    monkeypatch.setattr(execution, "_TURN_SECONDS", 1.0)
    rows, _ = conduct("hangs", "good")
    assert "no answer within" in rows["hangs"].error
    assert len(rows["good"].samples) == 3


def test_a_reader_that_cannot_do_it_says_why_and_is_not_asked_again(conduct):
    rows, _ = conduct("na", "good")
    assert rows["na"].na == "not for this stack"
    assert cell(rows["na"]) == {"na": "not for this stack"}
    assert len(rows["good"].samples) == 3


def test_a_reader_that_cannot_do_it_says_so_at_every_workload(workload, monkeypatch):
    """A worker in Python that was not opened: it holds nothing, and closes nothing, before the next one."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    payer = msgspec.structs.replace(workload.target, requester_pays=True, anonymous=False)
    with Conductor(["tensorstore"], plan=Plan(samples=1)) as one:
        found = [one.measure(msgspec.structs.replace(workload, target=payer)) for _ in range(3)]
    reasons = {(row.na, row.error) for rows in found for row in rows if row.reader == "tensorstore"}
    assert reasons == {("tensorstore misspells the header of requester-pays, so that S3 refuses it", None)}


def test_a_failing_limit_costs_only_the_ratios(conduct):
    rows, _ = conduct("good", limit="raises")
    assert rows["network-limit"].error
    assert [s.times_slower for s in rows["good"].samples] == [None] * 3
    found = cell(rows["good"])
    assert found["seconds"] == [0.02]
    assert "times_slower" not in found


def test_the_fastest_client_of_the_limit_measures_and_is_named(conduct):
    rows, _ = conduct("good", "rival")
    limit = rows["network-limit"]
    assert limit.variant == "network-limit+rust quick"
    assert {s.seconds for s in limit.samples} == {0.005}
    assert "network-limit+rust" not in rows


def test_a_client_of_the_limit_that_fails_leaves_it_to_the_others(conduct):
    rows, said = conduct("good", "rival", limit="raises")
    assert rows["network-limit"].variant == "network-limit+rust quick"
    assert rows["network-limit"].error is None
    assert {s.times_slower for s in rows["good"].samples} == {4.0}
    assert any("network-limit failed: ValueError: broken chunk" in line for line in said)


def test_a_client_of_the_limit_that_is_missing_is_told_of_once(conduct, workload):
    rows, said = conduct("good", "rival", limit="na", workloads=[workload, workload])
    assert rows["network-limit"].variant == "network-limit+rust quick"
    assert rows["network-limit"].na is None
    missing = "network-limit: one of its clients is missing, and it may be slower for that: not for this stack"
    assert [line for line in said if "missing" in line] == [missing]


def test_a_missing_client_of_the_limit_is_not_told_of_where_nothing_is_measured(conduct):
    rows, said = conduct("na", "rival", limit="na")
    assert rows["na"].samples == []
    assert not any("missing" in line for line in said)


def test_a_sample_below_the_limit_is_marked(conduct):
    rows, _ = conduct("good", limit="good")
    rows["good"].samples[0].limit_seconds = None
    attach_limit(rows["good"].samples[0], *(_slower(s) for s in rows["network-limit"].samples[:2]))
    assert FLAG_BELOW_LIMIT in rows["good"].samples[0].flags


def _slower(sample):
    sample.seconds *= 10
    return sample


@pytest.mark.parametrize(("busy", "said"), [(0.0, 0), (None, 0), (allowed_cores(), 1)])
def test_other_programs_are_told_of_while_they_disturb_once_per_workload(conduct, monkeypatch, busy, said):
    monkeypatch.setattr(OtherPrograms, "busy_cores", lambda _: busy)
    rows, lines = conduct("good", samples=3)
    samples = rows["good"].samples + rows["network-limit"].samples
    assert {sample.other_cores for sample in samples} == {busy}
    assert {FLAG_BUSY_MACHINE in sample.flags for sample in samples} == {bool(said)}
    told = [line for line in lines if "other programs keep" in line]
    assert len(told) == said
    assert all(f"of {allowed_cores()} cores busy: figures of this workload are disturbed" in line for line in told)


def test_several_readers_can_stand_between_two_limits(workload, monkeypatch):
    names = ["good", "good2", "good3"]
    registry = {cls.name: cls for cls in map(fake, names)} | {"network-limit": fake("limit")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    with Conductor(names, plan=Plan(samples=2, readers_between_limits=2)) as one:
        rows = {row.reader: row for row in one.measure(workload)}
    assert len(rows["network-limit"].samples) == 2 * 3  # before the first, after the second and after the third reader
    assert all(sample.times_slower == 2.0 for name in names for sample in rows[name].samples)


def test_the_budget_stops_after_the_minimum():
    plan = Plan(samples=15, budget_seconds=1.0)
    assert not plan.enough(1, 100.0)
    assert plan.enough(2, 100.0)
    assert not plan.enough(14, 0.5)
    assert plan.enough(15, 0.5)


def test_a_reader_that_used_the_budget_up_sits_the_other_rounds_out(workload, monkeypatch):
    registry = {cls.name: cls for cls in map(fake, ("good", "slow"))} | {"network-limit": fake("limit")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    with Conductor(["good", "slow"], plan=Plan(samples=3, budget_seconds=0.5)) as one:
        rows = {row.reader: row for row in one.measure(workload)}
    assert len(rows["slow"].samples) == 1
    assert len(rows["good"].samples) >= 2


def test_a_round_without_anybody_is_not_begun(workload, monkeypatch):
    registry = {cls.name: cls for cls in map(fake, ("good", "slow"))} | {"network-limit": fake("limit")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    with Conductor(["slow"], plan=Plan(samples=9, reader_seconds=0.5)) as one:
        rows = {row.reader: row for row in one.measure(workload)}
    assert len(rows["slow"].samples) == 1
    assert len(rows["network-limit"].samples) == 2


def test_every_round_and_every_trial_asks_for_draws_of_its_own(workload, monkeypatch):
    registry = {cls.name: cls for cls in map(fake, ("good",))} | {"network-limit": fake("limit")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    rounds = []
    begun = Probe.begin
    monkeypatch.setattr(Probe, "begin", lambda self: (rounds.append(self.round_number), begun(self))[1])
    with Conductor(["good"], plan=Plan(samples=3, trials=2)) as one:
        one.measure(workload)
    # Two trials of the limit's two plans before the first round; then the limit, the reader and the limit in each.
    assert rounds == [2**32] * 2 + [2**32 + 1] * 2 + [1] * 3 + [2] * 3 + [3] * 3


def test_every_session_is_a_fresh_process_and_all_workloads_share_it(workload, monkeypatch):
    registry = {cls.name: cls for cls in map(fake, ("good",))} | {"network-limit": fake("limit")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    started = []
    begun = WorkerProcess.__init__
    monkeypatch.setattr(WorkerProcess, "__init__", lambda self, *a: (started.append(a[0].name), begun(self, *a))[1])
    other = msgspec.structs.replace(workload, parameters=Parameters(gap=1))
    with Conductor(["good"], plan=Plan(samples=5, sessions=3, trials=1)) as one:
        of_workloads = one.measure_all([workload, other])
    assert sorted(started) == ["good"] * 3 + ["network-limit"] * 3
    assert [rows[0].workload for rows in of_workloads] == [workload, other]
    for rows in of_workloads:
        good, limit = rows
        assert [(s.session, s.round_number) for s in good.samples] == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]
        assert [s.round_number for s in limit.samples] == [n for n in range(1, 7) for _ in range(2)]
        assert limit.variant == "network-limit fast"
        assert len(cell(good)["seconds"]) == 3


def test_who_fails_in_a_later_session_has_no_row(conduct, monkeypatch):
    plain = Conductor._begin

    def begin(self, session):
        plain(self, session)
        if session == 2:
            readers.all_readers()["good2"].command = classmethod(lambda cls, _: [sys.executable, str(WORKER), "raises"])

    monkeypatch.setattr(Conductor, "_begin", begin)
    rows, _ = conduct("good", "good2", samples=3, sessions=3)
    assert "broken chunk" in rows["good2"].error
    assert rows["good2"].samples == []
    assert [sample.session for sample in rows["good"].samples] == [1, 2, 3]


@pytest.mark.parametrize(
    ("plan", "rounds", "seconds", "enough"),
    [
        (Plan(samples=15, sessions=7), 2, 0, False),
        (Plan(samples=15, sessions=7), 3, 0, True),
        (Plan(samples=21, sessions=7, budget_seconds=14), 1, 1.9, False),
        (Plan(samples=21, sessions=7, budget_seconds=14), 1, 2.1, True),
        (Plan(samples=21, sessions=7, budget_seconds=14), 0, 99, False),
    ],
)
def test_sessions_share_rounds_and_budget_evenly_and_each_has_a_round(plan, rounds, seconds, enough):
    assert plan.enough(rounds, seconds) is enough
    assert plan.patience == (plan.budget_seconds or float("inf")) / 7


class Connections:
    """A probe of a store that saw so many new connections in each execution."""

    def __init__(self, *seen, sees_connections=True):
        self._seen, self.sees_connections, self.executions = iter(seen), sees_connections, 0

    def begin(self):
        self.executions += 1

    def end(self):
        return next(self._seen)


def turn(workload, monkeypatch, probe, *, patience=60.0, always=False):
    """Return the sample of one turn, and what the worker was asked for."""
    asked = []
    one = Conductor(["good"], plan=Plan(always_discards=always, reader_seconds=patience))

    def ask(request, timeout):
        asked.append(request.get("discard", request["op"]))
        known = {"seconds": 1.0, "cpu_seconds": 0.0, "peak_rss_bytes": None, "request_counts": None}
        return {"timed": {**known, "array_bytes": 8, "calls": 1, "verified": True}}

    def made(workload, timed, connections, **_):
        return SimpleNamespace(seconds=timed.seconds, new_connections=connections)

    monkeypatch.setattr(readers, "all_readers", lambda: {"good": fake("good")})
    monkeypatch.setattr(one, "_workers", {"good": SimpleNamespace(require=ask)})
    monkeypatch.setattr(execution, "make_sample", made)
    found = one._execute(conductors.Row(reader="good", workload=workload), Candidate("good"), probe)
    return found, asked


def test_a_turn_is_repeated_only_where_the_first_execution_opened_connections(workload, monkeypatch):
    assert turn(workload, monkeypatch, Connections(0))[1] == [False]
    sample, asked = turn(workload, monkeypatch, Connections(3, 0))
    assert asked == [False, False]
    assert sample.new_connections == 0


def test_a_slow_execution_is_not_repeated_and_shows_its_connections(workload, monkeypatch):
    sample, asked = turn(workload, monkeypatch, Connections(3), patience=0.5)
    assert asked == [False]
    assert sample.new_connections == 3


def test_where_connections_are_not_seen_each_turn_warms_up(workload, monkeypatch):
    assert turn(workload, monkeypatch, Connections(0, sees_connections=False))[1] == [True, False]
    assert turn(workload, monkeypatch, Connections(0), always=True)[1] == [True, False]


def test_workers_die_with_the_conductor_even_when_it_is_killed():
    code = (
        "import sys, time\n"
        "from harness.measure.process import WorkerProcess\n"
        "from harness.readers import reader_class\n"
        "worker = WorkerProcess(reader_class('network-limit'))\n"
        "worker.ask({'op': 'close'}, timeout=60)\n"
        "print(worker.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        worker = psutil.Process(pid)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert worker.wait(timeout=10) is None or not psutil.pid_exists(pid)


def test_what_a_library_prints_does_not_reach_the_protocol():
    worker = WorkerProcess(readers.reader_class("network-limit"))
    try:
        assert worker.ask({"op": "sample"}, timeout=60) == {"error": "RuntimeError: sample before open"}
        assert worker.ask({"op": "nonsense"}, timeout=60)["error"].startswith("KeyError")
    finally:
        worker.stop()


def test_a_list_of_samples_is_served_once_per_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells: dict[Key, Cell] = {("r", "small", 0): {"seconds": [1.0, 2.0]}, ("r", "small", 1): {"seconds": [3.0]}}
    bench = Tracked()
    assert [bench.track_seconds(cells, "r", "small", 1) for _ in range(2)] == [3.0, 3.0]  # replaces itself
    assert bench.track_seconds(cells, "r", "small", 0) == {"samples": [1.0, 2.0], "number": 1}
    assert bench.track_seconds(cells, "r", "small", 0) == {"samples": [], "number": 1}


def test_every_reader_but_the_limit_is_measured():
    assert [*readers.benchmarked(), *readers.clients(NETWORK_LIMIT), THROWN_AWAY] == list(readers.all_readers())


def test_setup_tells_na_from_failure():
    cells: dict[Key, Cell] = {
        ("r", 1): {"na": "no such thing"},
        ("r", 2): {"error": "503"},
        ("r", 3): {"seconds": [1.0]},
    }
    bench = Tracked()
    with pytest.raises(NotImplementedError, match="no such thing"):
        bench.setup(cells, "r", 1)
    with pytest.raises(SystemExit, match="r: 503"):
        bench.setup(cells, "r", 2)
    with pytest.raises(NotImplementedError, match="not part of this pattern's grid"):
        bench.setup(cells, "r", 4)
    bench.setup(cells, "r", 3)


@pytest.fixture
def tunable(workload, monkeypatch, tmp_path):
    """A reader with one setting, and how to note what a search found for a data set."""
    monkeypatch.setenv("ZCB_TUNINGS", str(tmp_path / "tunings.toml"))
    cls = fake("tunable")
    cls.settings = (Setting(name="fast", of="calls", default="False", values=(True,), meaning="A factor."),)
    registry = {"tunable": cls, "network-limit": fake("limit", row=NETWORK_LIMIT)}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)

    def found(dataset, **settings):
        work = {"pattern": workload.pattern, "dataset": dataset, "in_flight": 100, "workload": "", "digest": ""}
        about = {"versions": {}, "started": "", "search_seconds": 0.0, "link": "lo", "cores": 2, "complete": True}
        tunings.keep(Tuning(reader="tunable", target="embedded:loopback", settings=settings, **work, **about))

    return found


def test_a_tuned_reader_is_not_available_until_something_was_searched_for(workload, tunable):
    with Conductor(["tunable", "tunable+tuned"], plan=Plan(samples=2)) as one:
        rows = {row.reader: row for row in one.measure(workload)}
    assert len(rows["tunable"].samples) == 2
    assert rows["tunable+tuned"].na.endswith("`zcb tune tunable w.json` does that")


def test_other_settings_for_another_workload_are_those_of_another_process(workload, tunable):
    tunable("a")
    tunable("b", fast=True)
    other = msgspec.structs.replace(workload, array=msgspec.structs.replace(workload.array, key="b"))
    pids, seen = [], []
    with Conductor(["tunable+tuned"], plan=Plan(samples=1)) as one:
        for work in (workload, workload, other):
            row, _ = one.measure(work)
            pids.append(one.pids()["tunable+tuned"])
            seen.append((row.settings, min(sample.seconds for sample in row.samples)))
    assert pids[0] == pids[1] != pids[2]
    assert [settings for settings, _ in seen] == [{}, {}, {"fast": True}]
    assert seen[2][1] == seen[0][1] / 2

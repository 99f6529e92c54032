"""Points of a sweep: turns in shuffled rounds, a process each, and what a failure costs."""

import itertools
import os

import msgspec
import pytest

from harness import readers
from harness.errors import BadUseError
from harness.machine.log import progress_to
from harness.measure import rounds, sweep
from harness.measure.rounds import Point, Rounds, take
from harness.readers.settings import Setting
from harness.results.sample import NETWORK_LIMIT
from harness.store.control import FaultRule
from tests.unit.measure.test_conductor import WORKER, fake, workload  # noqa: F401 - a fixture

FAST = Setting(name="fast", of="calls", default="False", values=(True,), meaning="A factor.")


@pytest.fixture
def turns(monkeypatch):
    """Register fake readers; returns the turns that were taken: the number in flight and the round of the store."""
    registry = {name: fake(name) for name in ("good", "slow", "raises", "na", "tunable")}
    registry |= {"network-limit": fake("limit"), "network-limit+rust": fake("rival")}
    monkeypatch.setattr(readers, "all_readers", lambda: registry)
    taken = []
    executed = rounds._Table._executed

    def noted(self, seat, candidate):
        taken.append((seat.point.workload.in_flight, self._probe.round_number))
        return executed(self, seat, candidate)

    monkeypatch.setattr(rounds._Table, "_executed", noted)
    return taken


def points(workload, reader, values):  # noqa: F811
    return [Point(reader=reader, workload=msgspec.structs.replace(workload, in_flight=value)) for value in values]


def test_every_round_has_every_value_once_in_shuffled_order(workload, turns):  # noqa: F811
    found = take(points(workload, "good", (1, 2, 3, 4)), Rounds(samples=6))
    assert [len(one.samples) for one in found] == [6] * 4
    by_round = [[value for value, _ in group] for _, group in itertools.groupby(turns, key=lambda turn: turn[1])]
    assert [sorted(set(of)) for of in by_round] == [[1, 2, 3, 4]] * 6
    assert len({tuple(dict.fromkeys(of)) for of in by_round}) > 1
    assert [len(of) for of in by_round] == [8, 4, 4, 4, 4, 4]  # the first of a process warms it up
    assert {sample.round_number for one in found for sample in one.samples} == set(range(1, 7))


def test_sessions_have_fresh_processes(workload, turns):  # noqa: F811
    (found,) = take(points(workload, "good", (1,)), Rounds(samples=5, sessions=2))
    assert [sample.session for sample in found.samples] == [1, 1, 1, 2, 2, 2]
    assert [number for _, number in turns] == [1, 1, 2, 3, 4, 4, 5, 6]


def test_a_slow_value_sits_out_and_keeps_a_sample(workload, turns):  # noqa: F811
    slow, good = take(
        [*points(workload, "slow", (1,)), *points(workload, "good", (2,))], Rounds(samples=4, patience=0.9)
    )
    assert (len(slow.samples), len(good.samples)) == (1, 4)


def test_long_executions_are_told_of_during_a_round(workload, turns, monkeypatch):  # noqa: F811
    said = []
    with progress_to(said.append):
        take(points(workload, "good", (7,)), Rounds(samples=1), label="w")
        monkeypatch.setattr(rounds, "_WORTH_A_LINE", 0)
        take(points(workload, "good", (7,)), Rounds(samples=1), label="w")
    end, *during, again = said
    assert end == again == "w: round 1 of 1"
    assert [line.partition(":")[2].startswith(" good, 7 in flight: ") for line in during] == [True, True]


@pytest.mark.parametrize(
    ("how", "field", "reason"), [("raises", "error", "broken chunk"), ("na", "na", "not for this")]
)
def test_what_fails_costs_its_own_samples_only(workload, turns, how, field, reason):  # noqa: F811
    bad, good = take([*points(workload, how, (1,)), *points(workload, "good", (2,))], Rounds(samples=3))
    assert reason in getattr(bad, field)
    assert (bad.samples, len(good.samples)) == ([], 3)


def test_the_limit_is_measured_by_its_fastest_client_and_plan(workload, turns, monkeypatch):  # noqa: F811
    for name in (NETWORK_LIMIT, "network-limit+rust"):
        monkeypatch.setattr(readers.all_readers()[name], "competes_for", NETWORK_LIMIT)
    (found,) = take(points(workload, NETWORK_LIMIT, (7,)), Rounds(samples=2))
    assert found.variant == "network-limit+rust quick"
    assert [sample.seconds for sample in found.samples] == [0.005] * 2


def test_a_point_has_its_own_settings_and_processors(workload, turns, monkeypatch):  # noqa: F811
    started = []
    process = rounds.WorkerProcess
    monkeypatch.setattr(
        rounds, "WorkerProcess", lambda *a: (started.append((os.sched_getaffinity(0), a[2])), process(*a))[1]
    )
    before = os.sched_getaffinity(0)
    monkeypatch.setattr(readers.all_readers()["tunable"], "settings", (FAST,))
    one = Point(reader="tunable", workload=workload, chosen={"fast": True}, cpus=frozenset({min(before)}))
    (found,) = take([one], Rounds(samples=1))
    assert found.error is None
    assert [(cpus, given.opening) for cpus, given in started] == [({min(before)}, {"fast": True})]
    assert os.sched_getaffinity(0) == before


def test_faults_are_refused(workload, turns, control):  # noqa: F811
    control.add_fault(FaultRule(fault="reset"))
    try:
        with pytest.raises(BadUseError, match="injects faults"):
            take(points(workload, "good", (1,)), Rounds(samples=1))
    finally:
        control.clear_faults()


def test_a_sweep_holds_the_values_of_each_reader_in_ascending_order(workload, turns):  # noqa: F811
    found = sweep.in_flight(["good", "raises"], workload, (20, 5), Rounds(samples=2))
    assert [(one.reader, [v.in_flight for v in one.values]) for one in found.readers] == [
        ("good", [5, 20]),
        ("raises", [5, 20]),
    ]
    assert (found.service.name, found.label, found.readers[0].versions) == ("loopback", "whole_array a", {"fake": "1"})
    assert "broken chunk" in found.readers[1].values[0].error

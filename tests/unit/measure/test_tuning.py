"""The search for the best settings, with a worker whose time follows from its settings."""

import itertools

import pytest

from harness import readers
from harness.errors import MeasurementError, UnsupportedError
from harness.measure import execution, tuning
from harness.measure.tuning import COVERAGE, MAY_LOSE, PAIRS, Search
from harness.readers.settings import ENVIRONMENT, Setting
from tests.unit.measure.test_conductor import fake, workload  # noqa: F401 - a fixture


def space(*names, of="calls"):
    return tuple(Setting(name=name, of=of, default="False", values=(True,), meaning="A factor.") for name in names)


def reader_with(*settings, how="tunable"):
    class Tunable(fake(how)):
        pass

    Tunable.settings = settings
    return Tunable


@pytest.fixture
def search(workload, monkeypatch):  # noqa: F811
    def run(reader, **options):
        monkeypatch.setattr(readers, "all_readers", lambda: {reader.name: reader})
        with Search(reader, workload, **options) as one:
            return one.run()

    return run


def outcomes(found):
    return [(trial.settings, trial.outcome) for trial in found.trials]


def test_a_small_space_is_tried_whole_and_the_best_is_kept(search):
    found = search(reader_with(*space("slow", "fast")))
    assert outcomes(found) == [
        ({"fast": True}, "better"),
        ({"slow": True}, "not better"),
        ({"slow": True, "fast": True}, "not better"),
        ({"fast": True}, "better"),  # once more, against the documentation's
    ]
    assert found.settings == {"fast": True}
    assert found.complete
    assert 0.15 <= found.low <= found.ratio == 0.5 <= found.high < 1
    assert found.versions == {"fake": "1"}
    assert (found.target, found.pattern, found.dataset) == ("embedded:loopback", "whole_array", "a")
    last = found.trials[-1]
    assert len(last.seconds) == len(last.seconds_against) == PAIRS


def test_what_changes_least_is_tried_first(search):
    found = search(reader_with(*space("fast", "same", "slow")))
    assert [len(trial.settings) for trial in found.trials] == [1, 1, 1, 2, 2, 2, 3, 1]  # the best once more at the end


def test_settings_that_are_equal_win_nothing_and_are_given_up_early(search):
    found = search(reader_with(*space("same")))
    assert outcomes(found) == [({"same": True}, "not better")]
    assert len(found.trials[0].seconds) == 3 <= MAY_LOSE
    assert (found.settings, found.ratio, found.trials[0].low) == ({}, None, None)


def test_a_large_space_is_descended_setting_by_setting(search, monkeypatch):
    monkeypatch.setattr(tuning, "GRID", 3)
    found = search(reader_with(*space("slow", "fast", "together")))
    assert found.settings == {"fast": True, "together": True}
    assert outcomes(found)[:3] == [
        ({"slow": True}, "not better"),
        ({"fast": True}, "better"),
        ({"fast": True, "together": True}, "better"),
    ]
    tried = [tuple(sorted(trial.settings)) for trial in found.trials[:-1]]
    assert len(tried) == len(set(tried))  # none twice, but for the last trial
    assert found.trials[-1].against == {}


def test_what_fails_or_cannot_be_done_is_noted_and_never_best(search):
    found = search(reader_with(*space("broken", "impossible")))
    assert outcomes(found) == [
        ({"impossible": True}, "n/a"),
        ({"broken": True}, "failed"),
        ({"broken": True, "impossible": True}, "failed"),
    ]
    assert [trial.reason for trial in found.trials[:2]] == ["not with this setting", "ValueError: broken setting"]
    assert found.settings == {}


def test_a_variable_is_there_when_the_process_starts(search):
    found = search(reader_with(*space("fast", of=ENVIRONMENT)))
    assert found.settings == {"fast": True}


def test_no_candidate_starts_when_the_time_is_up(search):
    found = search(reader_with(*space("fast")), seconds=0)
    assert (found.trials, found.settings, found.complete) == ([], {}, False)


def test_a_candidate_with_more_in_flight_than_allowed_is_refused(search, monkeypatch):
    made = execution.make_sample

    def crowded(*arguments, **options):
        sample = made(*arguments, **options)
        if sample.seconds < 0.015:  # that of the candidate
            sample.max_in_flight = 130
            sample.flags.append(tuning.FLAG_IN_FLIGHT)
        return sample

    monkeypatch.setattr(execution, "make_sample", crowded)
    found = search(reader_with(*space("fast")))
    assert outcomes(found) == [({"fast": True}, "refused")]
    assert found.trials[0].reason == "130 requests in flight, more than the 100 that it may have"


@pytest.mark.parametrize(
    ("how", "error"), [("na", UnsupportedError), ("raises", MeasurementError), ("trusts", MeasurementError)]
)
def test_without_the_documented_settings_there_is_no_search(search, how, error):
    with pytest.raises(error):
        search(reader_with(*space("fast"), how=how))


def test_pairs_share_their_draws(search, monkeypatch):
    rounds = []
    begun = tuning.Probe.begin
    monkeypatch.setattr(tuning.Probe, "begin", lambda self: (rounds.append(self.round_number), begun(self))[1])
    search(reader_with(*space("slow")))
    assert [len(list(group)) for _, group in itertools.groupby(rounds[1:])] == [2] * 3


def test_the_interval_covers_what_is_said():
    assert pytest.approx(1 - 2 * (1 + 20 + 190 + 1140 + 4845) / 2**20) == COVERAGE


@pytest.mark.parametrize(
    ("lost", "outcome", "pairs"),
    [
        ((0, 1, 2), "not better", 3),
        ((0, 1, 4, 9, 19), "not better", 20),
        ((0, 1, 4, 9, 12), "not better", 13),
        ((0, 1, 4, 9), "better", 20),
    ],
)
def test_a_candidate_may_lose_some_pairs(workload, monkeypatch, lost, outcome, pairs):  # noqa: F811
    taken = itertools.count()
    monkeypatch.setattr(Search, "_pair", lambda *_: (1.1, 1.0) if next(taken) in lost else (0.5, 1.0))
    with Search(reader_with(*space("fast")), workload) as one:
        trial = one._try({"fast": True}, {})
    assert (trial.outcome, len(trial.seconds)) == (outcome, pairs)
    if outcome == "better":
        assert (trial.ratio, trial.low, trial.high) == (0.5, 0.5, 0.5)

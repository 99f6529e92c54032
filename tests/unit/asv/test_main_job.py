"""What the main job measures of which release, and what of it is missing."""

import itertools
import re

import msgspec
import pytest

from harness.asv import main_job, tracked
from harness.machine import git
from harness.readers import benchmarked, derived
from harness.results.sample import NETWORK_LIMIT
from harness.workload import cases
from tests.support import passes

EVERY = tuple(tracked.readers(quick=True))
OF_ZARR = ("zarr-python+fsspec", "zarr-python+obstore", "zarr-python+obstore+fused")
OLDEST, NEWEST, BETWEEN = main_job.plan(["3.2.1", "3.3.0", "3.4.2"], full=False)


def row(reader, case, **reason):
    any_label = next(iter(passes.WORKLOADS))
    samples = [] if reason else [passes.sample(0.1, 0.1, 8)] * 7
    return msgspec.structs.replace(passes.row(reader, any_label, samples, **reason), label=case.label)


def rows(release, *, without=None, **reason):
    pairs = itertools.product(release.cases(), (*release.readers, NETWORK_LIMIT))
    return [row(reader, case, **reason) for case, reader in pairs if reader != without]


def record(release, *, tag=None, env_name="env", found=None):
    return passes.record(tag or release.tag, rows(release) if found is None else found, env_name=env_name)


def test_the_oldest_and_the_newest_are_measured_first():
    assert [one.version for one in (OLDEST, NEWEST, BETWEEN)] == ["3.2.1", "3.4.2", "3.3.0"]
    assert [one.version for one in main_job.plan(["3.4.2"], full=False)] == ["3.4.2"]
    assert NEWEST.readers == EVERY
    assert OLDEST.readers == BETWEEN.readers == OF_ZARR
    everyone = (*benchmarked(), *derived())
    assert not {"xarray", "dask", "icechunk"} & {*EVERY, *OF_ZARR}
    assert all(one.readers == everyone for one in main_job.plan(["3.2.1", "3.4.2"], full=True))


@pytest.mark.parametrize(
    ("row", "in_newest", "in_older"),
    [
        ("whole_array.WholeArray.track_seconds('zarr-python+obstore', 'large')", True, True),
        ("whole_array.WholeArray.track_seconds('zarr-python+obstore+fused', 'large')", True, True),
        ("whole_array.WholeArray.track_seconds('tensorstore', 'large')", True, False),
        ("whole_array.PlainWholeArray.time_read('zarr-python+obstore', 'large')", False, False),
        ("training.Training.track_waiting('zarr-python+obstore')", False, False),
    ],
)
def test_asv_looks_up_what_a_pass_measures(row, in_newest, in_older):
    assert bool(re.search(NEWEST.selection, row)) == in_newest
    assert bool(re.search(OLDEST.selection, row)) == in_older
    assert all(re.search(one.selection, row) for one in main_job.plan(["3.2.1"], full=True))


def test_a_release_in_between_has_no_timelines_in_a_quick_job():
    row = "timelines.Timelines.track_copy_seconds('zarr-python+obstore', 'one shard')"
    assert re.search(OLDEST.selection, row)
    assert re.search(NEWEST.selection, row)
    assert not re.search(BETWEEN.selection, row)
    assert not any(name.startswith("timeline of ") for name in BETWEEN.steps())
    assert all(re.search(one.selection, row) for one in main_job.plan(["3.2.1", "3.3.0", "3.4.2"], full=True))


def test_steps_bear_the_names_that_passes_report_and_take_longer_with_every_reader():
    steps = NEWEST.steps()
    assert {case.label for case in NEWEST.cases()} < steps.keys()
    assert any(name.startswith("timeline of ") for name in steps)
    assert OLDEST.steps().keys() == steps.keys()
    assert OLDEST.seconds < NEWEST.seconds < main_job.plan(["3.4.2"], full=True)[0].seconds


def test_what_has_been_measured_is_not_measured_again():
    assert main_job.is_measured(NEWEST, [record(NEWEST)], ["env"])
    assert main_job.is_measured(OLDEST, [record(NEWEST, tag="v3.2.1")], ["env"])  # more than was asked for
    assert main_job.is_measured(NEWEST, [record(NEWEST, found=rows(NEWEST, na="not for this stack"))], ["env"])


@pytest.mark.parametrize(
    "missing",
    [
        {"tag": "v3.4.1"},
        {"env_name": "with another library"},
        {"found": rows(NEWEST, without="tensorstore")},
        {"found": rows(NEWEST)[:-1]},
        {"found": rows(NEWEST, error="died")},
    ],
    ids=["release", "environment", "reader", "row", "failed"],
)
def test_what_is_missing_or_failed_is_measured(missing):
    assert not main_job.is_measured(NEWEST, [record(NEWEST, **missing)], ["env"])


def test_variables_choose_the_profile_and_a_person_has_the_last_word(tmp_path):
    asked = main_job.plan(["3.2.1", "3.4.2"], full=False, given={"ZCB_SAMPLES": "1"})[0]
    quick = main_job.variables(asked, tmp_path / "steps")
    assert quick["ZCB_GRID"] == "quick"
    assert quick["ZCB_SAMPLES"] == "1"
    assert quick["ZCB_READERS"].split(",") == list(OF_ZARR)
    full = main_job.variables(main_job.plan(["3.2.1"], full=True)[0], tmp_path / "steps")
    assert "ZCB_GRID" not in full


def test_latest_is_the_newest_that_the_history_holds(tmp_path):
    git.run(None, "init", "--quiet", str(tmp_path))
    for tag in ("v3.4.2", "v3.10.0", "v3.2.1"):
        identity = ("-c", "user.name=a", "-c", "user.email=a@localhost")
        git.run(tmp_path, *identity, "commit", "--quiet", "--allow-empty", "--message", tag)
        git.run(tmp_path, "tag", tag)
    assert main_job.versions(tmp_path, ["latest", "3.2.1"]) == ["3.2.1", "3.10.0"]


NO_BUDGET = {"ZCB_WORKLOAD_SECONDS": "", "ZCB_READER_SECONDS": ""}


def steps_of(full, **given):
    """Return the seconds of each case at the newest of two releases."""
    release = main_job.plan(["3.2.1", "3.4.2"], full=full, given=given)[1]
    labels = {case.label for case in release.cases()}
    return {name: took for name, took in release.steps().items() if name in labels}


@pytest.mark.parametrize("full", [False, True])
def test_the_time_that_is_said_follows_what_a_person_asks_for(full):
    usual = steps_of(full)
    hundred, twice = steps_of(full, ZCB_SAMPLES="100", **NO_BUDGET), steps_of(full, ZCB_SAMPLES="200", **NO_BUDGET)
    assert all(hundred[name] > took for name, took in usual.items())
    assert all(1.5 < twice[name] / took < 2 for name, took in hundred.items())
    cheapest, dearest = min(usual, key=usual.__getitem__), max(usual, key=usual.__getitem__)
    assert steps_of(full, ZCB_SAMPLES="100")[cheapest] < hundred[cheapest]  # the budget ends it
    assert usual[dearest] / usual[cheapest] < hundred[dearest] / hundred[cheapest]


def test_asv_by_itself_measures_more_than_a_quick_job_does():
    (asked,) = main_job.asked_of_asv(["3.4.2"], {"ZCB_GRID": "quick", "ZCB_SAMPLES": "7", "ZCB_SESSIONS": "7"})
    (chosen,) = main_job.plan(["3.4.2"], full=False, given={"ZCB_SAMPLES": "7", "ZCB_SESSIONS": "7", **NO_BUDGET})
    assert chosen.steps().items() < asked.steps().items()
    assert asked.seconds > chosen.seconds + 600  # asv's own timings, and the training loop
    (everything,) = main_job.asked_of_asv(["3.4.2"], {})
    (with_budget,) = main_job.asked_of_asv(["3.4.2"], main_job.FULL)
    assert with_budget.seconds == main_job.plan(["3.4.2"], full=True)[0].seconds < everything.seconds / 2


def test_each_session_takes_at_least_a_round_whatever_the_budget_is():
    few, many = (steps_of(True, ZCB_SESSIONS=sessions, ZCB_WORKLOAD_SECONDS="0.1") for sessions in ("1", "10"))
    rounds = {case.label: cases.load().patterns[case.pattern].round_seconds for case in cases.load().all}
    assert all(many[name] - took > 9 * rounds[name] for name, took in few.items())

"""Which commits of a branch are measured, what of them is there, and what was told of."""

import json

import msgspec
import pytest

from harness.asv import main_job, watch
from harness.asv.watch import Commit, Results
from harness.errors import BadUseError
from tests.support import passes
from tests.support.git_history import commit, git, repository


@pytest.fixture
def history(tmp_path):
    """Commits by name: some change the package, one comes by a merge, one is on another branch alone."""
    work = repository(tmp_path / "work")
    made = {"first": commit(work, "first", src__zarr="1"), "docs": commit(work, "docs", docs__page="1")}
    git(work, "checkout", "-qb", "side")
    made["inner"] = commit(work, "in a branch", src__zarr="2")
    git(work, "checkout", "-q", "main")
    git(work, "merge", "-q", "--no-ff", "-m", "merged | it", "side")
    made["merge"] = git(work, "rev-parse", "HEAD")
    made["ci"] = commit(work, "ci", ci="1")
    made["last"] = commit(work, "last", src__zarr="3")
    made["tip"] = commit(work, "more docs", docs__page="2")
    git(work, "checkout", "-qb", "other", made["first"])
    made["other"] = commit(work, "elsewhere", src__zarr="9")
    git(work, "checkout", "-q", "main")
    return work, made


def found(history, since):
    work, made = history
    names = {commit: name for name, commit in made.items()}
    return [names[one.commit] for one in watch.changing(work, since and made[since], made["tip"])]


def test_commits_that_leave_the_package_as_it_is_are_passed_over(history):
    assert found(history, "first") == ["first", "merge", "last"]
    assert found(history, "ci") == ["merge", "last"]  # the package of "ci" is that of the merge
    assert found(history, "tip") == ["last"]
    assert found(history, None) == ["last"]


def test_a_commit_tells_when_and_what(history):
    work, made = history
    first, merge, _ = watch.changing(work, made["first"], made["tip"])
    assert (first.subject, merge.subject) == ("first", "merged | it")
    assert merge.date == git(work, "log", "-1", "--format=%cI", made["merge"])


def test_a_start_that_is_not_of_the_branch_is_bad_use(history):
    work, made = history
    with pytest.raises(BadUseError, match="is not in the history of"):
        watch.changing(work, made["other"], made["tip"])


def test_a_repository_without_the_package_is_bad_use(tmp_path):
    only = commit(repository(tmp_path), "docs", docs__page="1")
    with pytest.raises(BadUseError, match=r"holds src or pyproject\.toml: is it zarr-python's\?"):
        watch.changing(tmp_path, None, only)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(1, [0, 7]), (2, [0, 3, 7]), (3, [0, 2, 4, 7]), (6, [0, 1, 2, 3, 4, 5, 7]), (7, [*range(8)]), (99, [*range(8)])],
)
def test_of_many_commits_some_are_measured_and_always_the_newest(most, expected):
    commits = [Commit(commit=str(number), date="", subject="") for number in range(8)]
    assert [int(one.commit) for one in watch.chosen(commits, most)] == expected
    assert watch.chosen(commits[:1], most) == commits[:1]


TARGET = {"ZCB_TARGET": "embedded:s3", "ZCB_PRESET": "demo"}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """An asv configuration with the results of nobody."""
    monkeypatch.setattr(main_job, "environments", lambda config: ["env"])
    monkeypatch.setattr(watch.Machine, "hardcoded_machine_name", "box")
    (tmp_path / "results" / "box" / "passes").mkdir(parents=True)
    settings = {name: [value] for name, value in TARGET.items()}
    conf = {"version": 1, "project": "z", "repo": ".", "results_dir": "results", "matrix": {"env_nobuild": settings}}
    path = tmp_path / "asv.conf.json"
    path.write_text(json.dumps(conf))
    return path


def keep(config, commit, *, without=None, sessions=7, **fields):
    """Write the pass records of a commit: a row of every case and reader that is asked for."""
    asked = Results(config, quick=True).asked
    any_label = next(iter(passes.WORKLOADS))
    samples = [passes.sample(0.1, 0.1, 8, session=number % sessions, round_number=number) for number in range(21)]
    rows = [
        msgspec.structs.replace(passes.row(reader, any_label, samples), label=case.label)
        for case in asked.cases()
        for reader in (*asked.readers, "network-limit")
        if reader != without
    ]
    record = passes.record("x", rows, sessions=sessions, **{"env_name": "env", "settings": TARGET} | fields)
    record = msgspec.structs.replace(record, commit=commit)
    folder = config.parent / "results" / record.machine / "passes"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{commit[:8]}-{len(list(folder.iterdir()))}.pass").write_bytes(msgspec.json.encode(record))


def test_what_is_measured_is_known_by_its_results(config):
    measured, partly = (Commit(commit=letter * 40, date="", subject="") for letter in "ab")
    keep(config, measured.commit)
    keep(config, partly.commit, without="zarr-python+obstore")
    assert Results(config, quick=False).missing([measured, partly]) == [partly]


@pytest.mark.parametrize(
    "elsewhere",
    [{"machine": "other"}, {"settings": TARGET | {"ZCB_PRESET": "tiny"}}, {"env_name": "older pins"}],
)
def test_results_of_another_machine_place_or_environment_are_no_results(config, elsewhere):
    one = Commit(commit="a" * 40, date="", subject="")
    keep(config, one.commit, **elsewhere)
    assert Results(config, quick=False).missing([one]) == [one]


def test_a_quick_result_is_enough_for_a_quick_watch_alone(config):
    one = Commit(commit="a" * 40, date="", subject="")
    keep(config, one.commit, sessions=1)
    assert Results(config, quick=True).missing([one]) == []
    assert Results(config, quick=False).missing([one]) == [one]
    assert Results(config, quick=True).asked.profile == main_job.QUICK
    assert Results(config, quick=False).asked.profile["ZCB_SESSIONS"] == "7"


def test_where_a_watch_goes_on(config, history):
    work, made = history
    results = Results(config, quick=False)
    assert results.start(work, "main", made["tip"]) is None
    keep(config, made["merge"])
    keep(config, made["first"])
    keep(config, made["other"])
    assert results.start(work, "main", made["tip"]) == made["merge"]  # the newest of the branch with results
    results.tell("main", made["first"])
    results.tell("else", made["other"])
    assert results.start(work, "main", made["tip"]) == made["first"]
    assert results.start(work, "third", made["tip"]) == made["merge"]  # told by branch


@pytest.mark.parametrize("damage", [b"", b"{", b'{"main": 1}', b"\xff" * 9])
def test_a_lost_or_damaged_note_is_made_up_for_by_the_results(config, history, damage, logged):
    work, made = history
    results = Results(config, quick=False)
    keep(config, made["merge"])
    results.tell("main", made["first"])
    (note,) = (config.parent / "results" / "box").glob("told*")
    note.write_bytes(damage)
    assert results.start(work, "main", made["tip"]) == made["merge"]
    assert any("cannot be read" in line for line in logged)
    results.tell("main", made["last"])
    assert results.start(work, "main", made["tip"]) == made["last"]


def test_a_note_of_a_commit_that_the_branch_lost_is_not_followed(config, history):
    work, made = history
    results = Results(config, quick=False)
    results.tell("main", made["other"])
    assert results.start(work, "main", made["tip"]) is None

"""The watch's order, its report and its exit codes, with programs that only do as they are told."""

import json
import sys

import msgspec
import pytest
from click.testing import CliRunner

from harness.asv import main_job, watch
from harness.cli import programs, zcb
from harness.errors import AnswerIsNoError, BadUseError, MeasurementError
from harness.store import state
from tests.support import passes
from tests.support.git_history import commit, repository

TARGET = {"ZCB_TARGET": "file:///nowhere", "ZCB_PRESET": "demo"}
PROGRAM = """#!{python}
import json, os, shutil, sys
from pathlib import Path
here = Path({folder!r})
with (here / "calls").open("a") as calls:
    calls.write(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
if sys.argv[1] == "run":
    commit = sys.argv[-1].removesuffix("^!")
    made = here / "prepared" / f"{{commit}}.pass"
    if not made.exists():
        print("zcb: ModuleNotFoundError: no module named 'new'")
        sys.exit(2)
    shutil.copy(made, here / "results" / "box" / "passes")
if sys.argv[1] == "compare":
    if not (here / "verdict.json").exists():
        print("zcb: a package is not pinned", file=sys.stderr)
        sys.exit(2)
    sys.stdout.write((here / "verdict.json").read_text())
    sys.exit(1)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository of four commits, an asv configuration without results, and stand-ins for zcb and asv."""
    for name in ("zcb", "asv"):
        program = tmp_path / name
        program.write_text(PROGRAM.format(python=sys.executable, folder=str(tmp_path)))
        program.chmod(0o755)
    monkeypatch.setattr(programs, "program", lambda name: str(tmp_path / name))
    monkeypatch.setattr("harness.cli.watch.program", lambda name: str(tmp_path / name))
    monkeypatch.setattr("harness.cli.watch.resolve", lambda target: None)
    monkeypatch.setattr(main_job, "environments", lambda config: ["env"])
    monkeypatch.setattr(watch.Machine, "hardcoded_machine_name", "box")
    monkeypatch.setattr(state, "running", lambda: None)
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "results" / "box" / "passes").mkdir(parents=True)
    (tmp_path / "prepared").mkdir()
    settings = {name: [value] for name, value in TARGET.items()}
    conf = {"version": 1, "project": "z", "repo": ".", "results_dir": "results", "matrix": {"env_nobuild": settings}}
    (tmp_path / "asv.conf.json").write_text(json.dumps(conf | {"build_command": ["true"]}))
    work = repository(tmp_path / "work")
    commits = [commit(work, f"change {number} | of it", src__zarr=str(number)) for number in range(4)]
    return tmp_path, commits


def prepare(folder, commit, number, seconds, **errors):
    """Let asv measure a commit: every reader takes `seconds`, the network limit always the same."""
    asked = watch.Results(folder / "asv.conf.json", quick=False).asked
    any_label = next(iter(passes.WORKLOADS))

    def samples(seconds):
        spread = [seconds * (1 + 0.001 * (place % 5)) for place in range(21)]
        return [passes.sample(s, 0.1, 8, session=n % 7, round_number=n) for n, s in enumerate(spread)]

    rows = [
        msgspec.structs.replace(
            passes.row(
                reader,
                any_label,
                [] if reader in errors else samples(0.1 if reader == "network-limit" else seconds),
                error=errors.get(reader),
            ),
            label=case.label,
        )
        for case in asked.cases()
        for reader in (*asked.readers, "network-limit")
    ]
    record = passes.record("x", rows, env_name="env", settings=TARGET, sessions=7, machine="box")
    record = msgspec.structs.replace(record, commit=commit)
    (folder / "prepared" / f"{commit}.pass").write_bytes(msgspec.json.encode(record))


def run(folder, *arguments):
    asked = ["--repo", str(folder / "work"), "--config", str(folder / "asv.conf.json"), "--markdown"]
    return CliRunner().invoke(zcb, ["watch", *asked, str(folder / "w.md"), *arguments])


def measured(folder, commits):
    """Return the places of the commits that asv was asked for, in order, and forget the calls."""
    calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    (folder / "calls").unlink()
    return [commits.index(words[-1].removesuffix("^!")) for words in calls if words[:2] == ["asv", "run"]]


def verdict(folder, answer, ratio, *, pattern="chunks_of_one_shard", error=None):
    finding = {
        "reader": "zarr-python+obstore",
        "pattern": pattern,
        "workload": f"{pattern} small gap=0",
        "digest": "0",
        "array_bytes": 8,
        "answer": answer,
        "ratio": ratio,
        "low": ratio,
        "high": ratio,
        "error": error,
    }
    side = {"label": "a", "detail": "zarr", "versions": {}}
    whole = {"base": side, "head": side, "target": "t", "command": "zcb compare a b", "started": "", "machine": ""}
    numbers = {"smallest_effect": 0.03, "error_rate": 0.01, "comparisons": 1, "findings": [finding]}
    (folder / "verdict.json").write_text(json.dumps(whole | numbers))


def test_the_first_watch_measures_the_newest_commit_and_the_next_one_what_is_new(folder):
    folder, commits = folder
    for number, one in enumerate(commits):
        prepare(folder, one, number, 0.2)
    assert run(folder).exception is None
    assert measured(folder, commits) == [3]
    newer = commit(folder / "work", "one more", src__zarr="new")
    prepare(folder, newer, 4, 0.2)
    done = run(folder, "--json")
    assert done.exception is None
    assert measured(folder, [*commits, newer]) == [4]
    report = json.loads(done.stdout)
    assert [one["commit"] for one in report["commits"]] == [commits[3], newer]
    assert report["commits"][1]["subject"] == "one more"
    (step,) = report["steps"]
    assert (step["before"], step["after"]) == (commits[3][:8], newer[:8])
    assert {finding["kind"] for finding in step["findings"]} == {"same"}
    assert {tuple(finding["processes"]) for finding in step["findings"]} == {(7, 7)}
    assert not (folder / "calls").exists()


def test_nothing_new_is_nothing_slower(folder):
    folder, commits = folder
    prepare(folder, commits[3], 3, 0.2)
    run(folder)
    measured(folder, commits)
    done = run(folder)
    assert done.exception is None
    assert "nothing new on main changes the package" in done.stdout
    assert not (folder / "calls").exists()


def test_what_got_slower_is_told_by_reader_and_pattern_and_the_exit_code(folder):
    folder, commits = folder
    for number, seconds in enumerate([0.2, 0.2, 0.4, 0.4]):
        prepare(folder, commits[number], number, seconds)
    done = run(folder, "--since", commits[0], "--no-check")
    assert isinstance(done.exception, AnswerIsNoError)
    assert measured(folder, commits) == [0, 1, 2, 3]
    page = (folder / "w.md").read_text()
    assert page.startswith("**🔴 3 new commits of main: ")
    rows = [line for line in page.splitlines() if line.startswith("| 🔴")]
    readers = watch.Results(folder / "asv.conf.json", quick=False).asked
    assert len(rows) == len(readers.readers) * len(readers.cases())
    assert all(f"{commits[1][:8]} → {commits[2][:8]}" in row for row in rows)
    (row,) = [row for row in rows if "| zarr-python+obstore |" in row and "one shard small gap=0" in row]
    assert "2.0x slower [" in row
    assert "| 7 | 10 | not asked |" in row
    assert "change 2 \\| of it" in page  # what others wrote is text


@pytest.mark.parametrize(
    ("answer", "ratio", "confirmed"),
    [("slower", 1.5, True), ("no difference", 1.0, False), ("not enough data", 1.0, False)],
)
def test_turns_confirm_or_refute_what_asv_found(folder, answer, ratio, confirmed):
    folder, commits = folder
    for number, seconds in enumerate([0.2, 0.3]):
        prepare(folder, commits[number], number, seconds)
    verdict(folder, answer, ratio)
    done = run(folder, "--since", commits[0], "--branch", commits[1], "--json")
    report = json.loads(done.stdout)
    assert [check["answer"] for check in report["checks"]] == [answer]
    (row,) = [
        line
        for line in (folder / "w.md").read_text().splitlines()
        if "| zarr-python+obstore |" in line and "one shard small gap=0" in line
    ]
    assert row.startswith("| 🔴" if confirmed else "| ❔")
    calls = [json.loads(line) for line in (folder / "calls").read_text().splitlines()]
    (compared,) = [words for words in calls if words[1] == "compare"]
    assert compared[2:4] == [commits[0][:8], commits[1][:8]]
    assert "chunks_of_one_shard" in compared[compared.index("--patterns") + 1]


def test_a_check_that_cannot_be_made_refutes_nothing_and_is_told(folder):
    folder, commits = folder
    for number, seconds in enumerate([0.2, 0.3]):
        prepare(folder, commits[number], number, seconds)
    done = run(folder, "--since", commits[0], "--branch", commits[1])
    assert isinstance(done.exception, AnswerIsNoError)
    page = (folder / "w.md").read_text()
    (told,) = [line for line in page.splitlines() if line.startswith("- ⚠️")]
    assert f"{commits[0][:8]} and {commits[1][:8]} in turns: a package is not pinned" in told


def test_a_watch_that_was_cut_off_goes_on_and_tells_all_of_it(folder, monkeypatch):
    folder, commits = folder
    for number, seconds in enumerate([0.2, 0.4, 0.4, 0.4]):
        prepare(folder, commits[number], number, seconds)
    run(folder, "--branch", commits[0])
    measured(folder, commits)
    with monkeypatch.context() as patched:
        patched.setattr("harness.cli.watch._Watched.checks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(folder, "--since", commits[0], "--branch", commits[2])
    assert measured(folder, commits) == [1, 2]
    results = watch.Results(folder / "asv.conf.json", quick=False)
    results.tell("main", commits[0])
    done = run(folder, "--no-check", "--json")
    assert measured(folder, commits) == [3]
    assert isinstance(done.exception, AnswerIsNoError)
    report = json.loads(done.stdout)
    assert [one["commit"] for one in report["commits"]] == commits
    assert {f["kind"] for f in report["steps"][0]["findings"]} == {"slower"}


def test_a_commit_that_cannot_be_measured_is_told_and_the_others_are(folder):
    folder, commits = folder
    for number in (0, 1, 3):
        prepare(folder, commits[number], number, 0.2)
    done = run(folder, "--since", commits[0])
    assert isinstance(done.exception, MeasurementError)
    assert str(done.exception).startswith(f"{commits[2][:9]}: ModuleNotFoundError: no module named 'new'")
    assert measured(folder, commits) == [0, 1, 2, 3]
    assert f"⚠️ {commits[2][:9]}: ModuleNotFoundError" in (folder / "w.md").read_text()
    assert run(folder).exception is None  # the next night goes on from the newest that was measured


def test_the_commit_after_a_broken_one_is_compared_with_the_last_that_could_be_read(folder):
    folder, commits = folder
    readers = watch.Results(folder / "asv.conf.json", quick=False).asked.readers
    prepare(folder, commits[0], 0, 0.2)
    prepare(folder, commits[1], 1, 0.2, **dict.fromkeys(readers, "RuntimeError: broken at import"))
    prepare(folder, commits[2], 2, 0.4)
    done = run(folder, "--since", commits[0], "--branch", commits[2], "--no-check", "--json")
    assert isinstance(done.exception, AnswerIsNoError)
    report = json.loads(done.stdout)
    assert [(step["before"], step["after"]) for step in report["steps"]] == [(commits[0][:8], commits[2][:8])]
    (failure,) = report["failed"]
    assert failure.startswith(f"{commits[1][:9]}: RuntimeError: broken at import (all of it: ")


def test_rows_that_fail_since_a_commit_are_told_and_slower_goes_before_them(folder):
    folder, commits = folder
    prepare(folder, commits[0], 0, 0.2)
    prepare(folder, commits[1], 1, 0.2, **{"zarr-python+fsspec": "503 Slow Down"})
    done = run(folder, "--since", commits[0], "--branch", commits[1])
    assert isinstance(done.exception, MeasurementError)
    assert "zarr-python+fsspec" in str(done.exception)
    assert "503 Slow Down" in str(done.exception)
    prepare(folder, commits[2], 2, 0.4)
    prepare(folder, commits[3], 3, 0.8, **{"zarr-python+fsspec": "503 Slow Down"})
    done = run(folder, "--since", commits[2], "--no-check")
    assert isinstance(done.exception, AnswerIsNoError)


def test_of_too_many_commits_some_are_left_out_and_that_is_said(folder):
    folder, commits = folder
    for number, one in enumerate(commits):
        prepare(folder, one, number, 0.2)
    done = run(folder, "--since", commits[0], "--max", "1")
    assert measured(folder, commits) == [0, 3]
    assert "2 new commits in between were not measured" in done.stdout


def test_what_is_undecided_names_the_comparison_that_decides_it(folder):
    folder, commits = folder
    prepare(folder, commits[0], 0, 0.2)
    prepare(folder, commits[1], 1, 0.3)
    for one in commits[:2]:  # one process each, too few samples
        path = folder / "prepared" / f"{one}.pass"
        record = json.loads(path.read_text())
        for row in record["rows"]:
            row["samples"] = row["samples"][:3]
        path.write_text(json.dumps(record))
    done = run(folder, "--since", commits[0], "--branch", commits[1])
    assert done.exception is None
    assert f"is decided by `zcb compare {commits[0][:12]} {commits[1][:12]} " in done.stdout
    assert "--repo work`" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--since", "nonsense"], "holds no revision 'nonsense'"),
        (["--branch", "nonsense"], "holds no revision 'nonsense'"),
        (["--repo", "/nowhere"], "neither a directory nor a URL"),
        (["--config", "/nowhere.json"], "there is no asv configuration /nowhere.json"),
    ],
)
def test_bad_use_is_one_line(folder, arguments, reason):
    done = run(folder[0], *arguments)
    assert isinstance(done.exception, BadUseError)
    assert reason in str(done.exception)

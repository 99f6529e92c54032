"""The main job's order, its first table and its end, with programs that only note how they were called."""

import importlib
import shutil
import stat
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from harness.asv import main_job, tracked
from harness.cli import bench as job
from harness.cli import programs as programs_of
from harness.errors import BadUseError, MeasurementError
from harness.machine import rust
from harness.paths import ROOT
from harness.store import state, veth

PROGRAM = """#!{python}
import json, os, sys, time
from pathlib import Path
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\\n")
if "table" in sys.argv:
    print("TABLE OF " + sys.argv[sys.argv.index("--pattern") + 1])
if sys.argv[1:2] == ["run"]:
    for name in ("chunks_of_one_shard small gap=0", "headline_3004 gem3 reads=1"):
        with open(os.environ["ZCB_STEPS"], "a") as steps:
            steps.write(json.dumps([name, 1.0]) + "\\n" + json.dumps(["", 0.0, "a busy machine"]) + "\\n")
        time.sleep(0.05)
fails = Path({folder!r}) / ("fails-" + Path(sys.argv[0]).name + "-" + sys.argv[1])
if fails.exists():
    print("zcb: " + fails.read_text())
    sys.exit({{"history": 3}}.get(sys.argv[1], 2))
"""


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins for zcb and asv; the list of their calls."""
    calls = tmp_path / "calls"
    for name in ("zcb", "asv"):
        program = tmp_path / name
        program.write_text(PROGRAM.format(python=sys.executable, calls=str(calls), folder=str(tmp_path)))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    shutil.copy(tmp_path / "zcb", tmp_path / "python")
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    for module in (job, programs_of):
        monkeypatch.setattr(module, "program", lambda name: str(tmp_path / name))
    monkeypatch.setattr(job, "sys", SimpleNamespace(executable=str(tmp_path / "python"), prefix="", argv=["zcb"]))
    monkeypatch.setattr(job, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(rust, "PROGRAMS", ())
    monkeypatch.setattr(veth, "obstacle", lambda: None)
    monkeypatch.setattr(state, "require_running", lambda: SimpleNamespace(link=SimpleNamespace(name="veth")))
    monkeypatch.setattr(main_job, "versions", lambda history, asked: ["3.2.1", "3.3.0", "3.4.2"])
    monkeypatch.setattr(main_job, "environments", lambda config: ["env"])
    monkeypatch.setattr(main_job, "is_measured", lambda release, passes, names: False)
    records = [SimpleNamespace(commit_name=tag, pattern=main_job.FIRST_CLASS) for tag in ("v3.2.1", "v3.4.2")]
    monkeypatch.setattr(main_job, "recorded", lambda config: records)
    return tmp_path


def called(folder):
    return (folder / "calls").read_text().splitlines()


def run(*arguments):
    return CliRunner().invoke(job.bench, [*arguments], catch_exceptions=True)


def test_releases_are_measured_in_order_and_the_answer_comes_last(programs, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = run()
    assert done.exception is None, done.output
    lines = called(programs)
    measured = [line for line in lines if '"asv", "run"' in line]
    assert [tag for line in measured for tag in ("v3.2.1", "v3.4.2", "v3.3.0") if f'"{tag}^!"' in line] == [
        "v3.2.1",
        "v3.4.2",
        "v3.3.0",
    ]
    assert all("asv.veth.conf.json" in line for line in measured)
    assert "tensorstore" in measured[1]
    assert "tensorstore" not in measured[0]
    order = [next(n for n, line in enumerate(lines) if word in line) for word in ("history", "start", "data", "run")]
    assert order == sorted(order)
    assert '"answer"' in lines[-1]
    assert sum('"table"' in line for line in lines) == 1
    assert "TABLE OF chunks_of_one_shard" in done.output
    assert "zarr 3.4.2: a busy machine" in done.output


def test_what_is_measured_is_not_measured_again_and_only_answered(programs, monkeypatch):
    monkeypatch.setattr(main_job, "is_measured", lambda release, passes, names: True)
    assert run().exception is None
    assert not any('"asv", "run"' in line for line in called(programs))
    assert run("--remeasure").exception is None
    assert any('"asv", "run"' in line for line in called(programs))


def test_a_full_job_says_first_how_long_it_takes(programs):
    done = run("--full")
    assert "all of it: about " in done.output
    full = [line for line in called(programs) if '"asv", "run"' in line]
    assert len(full) == 3
    assert all("tensorstore" not in line and '"--bench", "."' in line for line in full)  # everything, so no names


def test_repositories_are_written_for_a_full_job_only(programs):
    for options, written in (((), 0), (("--full",), 2)):
        (programs / "calls").unlink(missing_ok=True)
        run(*options)
        assert sum('"--as", "icechunk"' in line for line in called(programs)) == written


def test_rows_that_fail_are_told_at_the_end_and_what_was_right_is_published(programs):
    (programs / "fails-asv-run").write_text("a row failed")
    done = run()
    assert isinstance(done.exception, MeasurementError)
    assert "rows of zarr 3.4.2 failed" in str(done.exception)
    assert '"answer"' in called(programs)[-1]
    assert any('"asv", "publish"' in line for line in called(programs))


def test_a_program_that_fails_ends_the_job_with_its_reason_and_code(programs):
    (programs / "fails-zcb-history").write_text("the package index cannot be reached")
    done = run()
    assert str(done.exception).startswith("the package index cannot be reached (all of it: ")
    assert done.exception.exit_code == 3
    assert not any("store" in line for line in called(programs))


def test_where_bytes_on_the_wire_cannot_be_counted_it_is_said(programs, monkeypatch):
    monkeypatch.setattr(state, "require_running", lambda: SimpleNamespace(link=SimpleNamespace(name="lo")))
    done = run("--link", "lo")
    assert "bytes on the wire are not counted" in done.output
    assert any("asv.releases.conf.json" in line for line in called(programs) if '"asv", "run"' in line)


def test_samples_and_seconds_of_ones_own_reach_asv(programs, monkeypatch):
    seen = []
    monkeypatch.setattr(
        main_job, "variables", lambda release, steps: seen.append(release.given) or {"ZCB_STEPS": str(steps)}
    )
    assert run("--samples", "15", "--seconds", "0").exception is None
    assert seen[0] == {"ZCB_SAMPLES": "15", "ZCB_WORKLOAD_SECONDS": "", "ZCB_READER_SECONDS": ""}


def test_it_needs_the_repository(monkeypatch):
    monkeypatch.setattr("harness.paths.in_repository", lambda: False)
    done = run()
    assert isinstance(done.exception, BadUseError)
    assert "clone zarr-cloud-bench" in str(done.exception)


def test_the_first_table_is_of_a_pass_that_there_is_and_of_readers_that_every_release_has():
    module = importlib.import_module(f"benchmarks.{main_job.FIRST_PATTERN}")
    assert issubclass(getattr(module, main_job.FIRST_CLASS), tracked.Tracked)
    assert all(set(tracked.PLAIN_READERS) <= set(one.readers) for one in main_job.plan(["3.2.1", "3.4.2"], full=False))

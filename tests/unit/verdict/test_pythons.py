"""Sides that differ in their Python: what is installed for each, what is left out, and what is refused in one line."""

import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import BadUseError, MeasurementError
from harness.readers import reader_class
from harness.readers.base import PYTHON_VARIABLE
from harness.targets.resolve import resolve
from harness.verdict import pythons
from harness.verdict.run import Request, plan, usual_readers

LOCK = """
needed==1.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via zarr
spare==2.0 \\
    --hash=sha256:cc
zarr==3.0 \\
    --hash=sha256:dd
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def installs(monkeypatch):
    """What pip is asked for: a list of package names and options for each call; wheels lack where `without` says."""
    calls, without = [], []

    def called(command):
        command = [str(word) for word in command]
        if "venv" in command:
            return subprocess.CompletedProcess(command, 0, "", "")
        wanted = [line.partition("==")[0] for line in Path(command[-1]).read_text().splitlines() if "==" in line]
        calls.append((wanted, command[command.index("--require-hashes") + 1 : -2]))
        lacking = [name for name in wanted if name in without and "--only-binary" in command]
        said = f"ERROR: No matching distribution found for {lacking[0]}==1.0" if lacking else ""
        return subprocess.CompletedProcess(command, bool(lacking), "", said)

    monkeypatch.setattr(pythons, "called", called)
    monkeypatch.setattr(pythons.sides, "required_by", lambda _: ["needed"])
    return calls, without


def install(tmp_path):
    (tmp_path / "bin").mkdir()
    answers = tmp_path / "bin" / "python"
    answers.write_text("#!/bin/sh\nexit 0\n")
    answers.chmod(answers.stat().st_mode | stat.S_IXUSR)
    pythons._install(Path(sys.executable), tmp_path, LOCK)


def test_everything_that_is_locked_is_installed_with_its_hashes(installs, tmp_path):
    install(tmp_path)
    assert installs[0] == [(["needed", "spare", "zarr"], ["--only-binary", ":all:"])]
    assert "--hash=sha256:bb" in (tmp_path / "wanted.lock").read_text()


def test_what_has_no_wheel_is_left_out_or_built_where_zarr_needs_it(installs, tmp_path):
    calls, without = installs
    without += ["spare", "needed"]
    install(tmp_path)
    assert calls[-2:] == [(["zarr"], ["--only-binary", ":all:"]), (["needed"], ["--no-binary", "needed"])]


def test_a_lock_that_cannot_be_installed_is_a_reason(installs, tmp_path, monkeypatch):
    def fails(command):
        code = 0 if "venv" in map(str, command) else 1
        return subprocess.CompletedProcess([], code, "", "ERROR: hashes do not match")

    monkeypatch.setattr(pythons, "called", fails)
    with pytest.raises(MeasurementError, match="hashes do not match"):
        install(tmp_path)


def program(folder, text):
    path = folder / "python9.9"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("python:3.99", "no python3.99 is on the path"),
        ("python:/nowhere/python", "there is no program '/nowhere/python'"),
        ("3.2.1", "3.2.1 is no Python: compare Pythons with each other, or with ="),
        ("python:3.99t", "no python3.99t is on the path"),
    ],
)
def test_what_is_no_python_is_refused(spec, reason, own):
    with pytest.raises(BadUseError, match=f"^{reason}$"):
        pythons.make(spec, {})


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo 3 11 0 and more", "is Python 3.11: readers run in 3.12 or newer"),
        ("echo nonsense >&2; exit 1", "is no Python: nonsense"),
        ("echo hello", "is no Python: no message"),
        ("echo 3 14 0 and more", r"\+nogil: that Python was not built without a global lock"),
    ],
)
def test_a_program_is_asked_which_python_it_is(answer, reason, own, tmp_path):
    with pytest.raises(BadUseError, match=reason):
        pythons.make(f"python:{program(tmp_path, answer)}{pythons.NO_LOCK}", {})
    assert not (own / "sides").exists()


def test_whoever_runs_in_python_is_compared_and_nobody_else(own):
    request = Request(base="=", head="python:3.14", target=resolve("https://localhost/"))
    assert usual_readers(request)[0].startswith("zarr-python")
    with pytest.raises(
        BadUseError, match="zarrs does not use Python, so there is nothing to compare: choose from zarr"
    ):
        plan(Request(base="=", head="python:3.14", target=request.target, readers=["zarrs"]))


def test_workers_run_in_the_program_that_their_environment_names():
    command = reader_class("tensorstore").command
    assert command({})[0] == sys.executable
    assert command({PYTHON_VARIABLE: "/elsewhere/python"})[0] == "/elsewhere/python"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("python3.14"), reason="no python3.14 on the path")
def test_another_python_reads_with_the_locked_packages(own):
    side = pythons.make("python:3.14", {})
    assert side.detail.startswith("Python 3.14.")
    assert pythons.make("python:3.14", {}).environment == side.environment

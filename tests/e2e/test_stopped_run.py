"""A test run that is killed, or stopped with Ctrl-C, leaves no store and no network behind."""

import functools
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harness.paths import ROOT
from harness.store import veth
from tests.support import guard

RUN = """
import os, subprocess, sys, time

from harness.store import veth


def test_that_is_killed(embedded_store, tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    subprocess.run([sys.executable, "-m", "harness.cli", "store", "start", "--link", "auto"], check=True)
    with open({begun!r}, "w") as file:
        file.write(f"{{os.getpid()}} {{veth.interface_name()}} .")
    time.sleep(600)
"""


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def run(store_binary, tmp_path):
    """A run in the middle of its test, with a store of the session and one that a command started."""
    processes = []

    def start(*options):
        begun, base = tmp_path / "begun", tmp_path / "base"
        (tmp_path / "test_run.py").write_text(RUN.format(begun=str(begun)))
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "--basetemp", base]
        process = subprocess.Popen(
            [*command, *options, "-c", ROOT / "pyproject.toml", "--rootdir", tmp_path, tmp_path / "test_run.py"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        processes.append(process)
        until(lambda: process.poll() is not None or (begun.exists() and begun.read_text().endswith(".")))
        worker, interface, _ = begun.read_text().split()
        return process, int(worker), interface, base

    yield start
    for process in processes:
        process.kill()
        process.wait()


def stores(base):
    return [pid for pid in guard.left_of(base) if psutil.Process(pid).name() == "s3-store"]


WORKER = ["-n", "1"]


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ([], signal.SIGKILL),
        ([], signal.SIGTERM),
        ([], signal.SIGINT),
        (WORKER, signal.SIGKILL),
        (WORKER, signal.SIGINT),
    ],
    ids=str,
)
def test_nothing_is_left(run, number, options):
    process, _, interface, base = run(*options)
    assert len(stores(base)) == 2
    assert veth.exists(interface) == (veth.obstacle() is None)
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    process.wait(timeout=60)
    until(lambda: not list(guard.left_of(base)))
    until(lambda: not veth.exists(interface))


def test_a_worker_that_is_killed_leaves_nothing_either(run):
    process, worker, _, base = run(*WORKER)
    left = stores(base)
    assert len(left) == 2
    os.kill(worker, signal.SIGKILL)
    until(lambda: not {*left} & {*stores(base)})
    process.wait(timeout=60)
    until(lambda: not list(guard.left_of(base)))


def test_who_looks_at_the_files_of_a_run_is_no_part_of_it(tmp_path):
    file = tmp_path / "file"
    file.touch()
    reads = [sys.executable, "-c", "import time; time.sleep(600)", str(file)]
    process = subprocess.Popen(reads, cwd=tmp_path, env={"PWD": str(file), "OLDPWD": str(file)})
    told = subprocess.Popen(reads[:3], env={"HOME": str(file)})
    try:
        until(lambda: list(guard.left_of(tmp_path)) == [told.pid])
    finally:
        for each in (process, told):
            each.kill()
            each.wait()

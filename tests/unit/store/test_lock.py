"""The right to measure: one at a time, but whoever has it has it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.store.lock import MeasurementLock

ROOT = Path(__file__).parents[3]
TAKEN = (
    "import sys; from harness.store.lock import MeasurementLock; lock = MeasurementLock(); print('taken', flush=True)"
)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))


def another_process_gets_it(within=10.0):
    """Whether a process of its own gets the right in time."""
    try:
        done = subprocess.run([sys.executable, "-c", TAKEN], cwd=ROOT, capture_output=True, text=True, timeout=within)
    except subprocess.TimeoutExpired:
        return False
    return done.stdout == "taken\n"


def test_whoever_has_it_gets_it_again_and_others_wait_until_both_have_ended():
    with MeasurementLock():
        inner = MeasurementLock()
        inner.end()
        inner.end()  # once is enough, twice does no harm
        assert not another_process_gets_it(within=2.0)
    assert another_process_gets_it()


def test_another_thread_waits_and_says_so(logged):
    order = []

    def other():
        with MeasurementLock():
            order.append("other")

    with MeasurementLock():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=0.5)
        order.append("mine")
    thread.join(timeout=10)
    assert order == ["mine", "other"]
    assert f"waiting for another measurement on this store (process {os.getpid()}) ..." in logged


def test_stores_of_two_state_directories_are_two(tmp_path, monkeypatch):
    with MeasurementLock():
        monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "other"))
        assert another_process_gets_it()


def test_a_forked_process_neither_has_it_nor_keeps_it():
    code = (
        "import os, sys, time\n"
        "from harness.store.lock import MeasurementLock\n"
        "lock = MeasurementLock()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    with MeasurementLock():\n"  # waits for its parent
        "        print('child', flush=True)\n"
        "    os._exit(0)\n"
        "time.sleep(0.5)\n"
        "print('parent', flush=True)\n"
        "lock.end()\n"
        "os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert done.stdout.split() == ["parent", "child"], done.stderr

"""A server that never answers, and Ctrl-C: a command ends by its time-out or at once, in one line."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from harness.targets.client import open_store
from harness.targets.target import Target
from harness.workload import model
from harness.workload.create import create_workload
from setup_data import presets, write
from tests.support import odd_server

INTERRUPTED = 130
COMMAND = "from harness.cli import command; command()"


@pytest.fixture
def silent():
    with odd_server.silence() as address:
        yield address


def start(folder, *arguments, code=COMMAND):
    """Start the command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def targets(folder, monkeypatch, address):
    table = f'[silent]\nurl = "s3://bench/x"\nendpoint = "{address}"\nregion = "us-east-1"\nanonymous = true\n'
    (folder / "targets.toml").write_text(table)
    monkeypatch.setenv("ZCB_TARGETS", str(folder / "targets.toml"))


@pytest.mark.parametrize("kind", ["s3", "http"])
def test_a_server_that_never_answers_ends_by_the_time_out_in_words(silent, tmp_path, monkeypatch, kind):
    targets(tmp_path, monkeypatch, silent)
    target = "silent" if kind == "s3" else f"{silent}/a/b.zarr"
    running = start(tmp_path, "workload", "whole_array", "--target", target, "-o", "w.json", "--timeout", "1")
    said, complaint = running.communicate(timeout=60)
    host = silent.removeprefix("http://")
    assert (running.returncode, said) == (3, "")
    assert complaint == f"zcb: no answer from {host} within 1 s\n"
    assert not (tmp_path / "w.json").exists()


@pytest.mark.parametrize("timeout", ["0", "-1", "nan", "inf"])
def test_a_time_out_that_is_none_is_bad_use(tmp_path, timeout):
    running = start(tmp_path, "workload", "whole_array", "--target", "x", "-o", "w.json", f"--timeout={timeout}")
    assert running.communicate(timeout=60)[1].startswith("zcb: Invalid value for '--timeout'")
    assert running.returncode == 2


def interrupt(running, after):
    """Send SIGINT to the process group and return how long it then took to end, and what was on stderr."""
    time.sleep(after)
    begin = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    _, complaint = running.communicate(timeout=60)
    return time.monotonic() - begin, complaint


def test_ctrl_c_ends_a_command_that_waits_for_a_server(silent, tmp_path, monkeypatch):
    targets(tmp_path, monkeypatch, silent)
    running = start(tmp_path, "workload", "whole_array", "--target", "silent", "-o", "w.json")
    took, complaint = interrupt(running, after=3)
    assert (running.returncode, complaint) == (INTERRUPTED, "zcb: interrupted\n")
    assert took < 2


@pytest.fixture
def work(embedded_store, bucket, tmp_path, monkeypatch):
    """A workload of the embedded store."""
    target = Target(name="own", url=f"s3://{bucket}", endpoint=embedded_store.endpoint, anonymous=True)
    for spec in presets.specs("tiny", ("small",)):
        write.write(open_store(target), spec)
    made = create_workload("chunks_of_one_shard", target, dataset="tiny/small")
    (tmp_path / "w.json").write_bytes(model.encode(made))


@pytest.mark.slow
def test_ctrl_c_ends_a_measurement_and_its_workers(work, tmp_path):
    running = start(tmp_path, "read", "zarr-python+obstore,tensorstore", "w.json", "--samples", "9999")
    workers, deadline = [], time.monotonic() + 60
    while len(workers) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
        workers = psutil.Process(running.pid).children(recursive=True)
    took, complaint = interrupt(running, 1)
    *talk, last = complaint.splitlines()
    assert (running.returncode, last) == (INTERRUPTED, "zcb: interrupted")
    assert not [line for line in talk if not line.startswith("zcb read: ")]
    assert took < 2
    assert psutil.wait_procs(workers, timeout=10)[1] == []


def interrupt_after(running, said):
    """Send SIGINT when a line with such words was on stderr; return what was on stdout, and the last line on stderr."""
    for line in running.stderr:
        if said in line:
            break
    os.killpg(running.pid, signal.SIGINT)
    output, complaint = running.communicate(timeout=60)
    return output, complaint.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.alone  # showing has a second
def test_what_was_measured_until_ctrl_c_is_shown(work, tmp_path):
    readers = "zarr-python+obstore,tensorstore"
    running = start(tmp_path, "read", readers, "w.json", "--samples", "9999", "--json")
    output, last = interrupt_after(running, ": round 3:")
    assert (running.returncode, last) == (INTERRUPTED, "zcb: interrupted")
    counts = {len(one["samples"]) for one in json.loads(output)}
    assert len(counts) == 1  # whole rounds only
    assert counts.pop() >= 3


@pytest.mark.slow
@pytest.mark.alone
def test_a_sweep_that_is_interrupted_shows_the_readers_that_were_measured(work, tmp_path):
    asked = ["--readers", "zarrs-planned,tensorstore", "--values", "1,10", "--samples", "9"]
    running = start(tmp_path, "sweep", "in-flight", "w.json", *asked)
    output, last = interrupt_after(running, "tensorstore: round 2 of 9")
    assert (running.returncode, last) == (INTERRUPTED, "zcb: interrupted")
    assert {line.split()[0] for line in output.splitlines() if "Gbit/s" in line and ":" in line} >= {"zarrs-planned"}


READY = """
import sys
from harness.machine import interrupts
found = interrupts.end_at_once
def end_at_once():
    found()
    print("heard", flush=True)
interrupts.end_at_once = end_at_once
from harness.cli import command; command()
"""
"""Says when the command hears of Ctrl-C for the first time: before that it is Python that starts."""


@pytest.mark.parametrize("after", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
def test_ctrl_c_while_a_command_starts_is_one_line(silent, tmp_path, monkeypatch, after):
    targets(tmp_path, monkeypatch, silent)
    asked = ["workload", "whole_array", "--target", "silent", "-o", "w.json"]
    running = start(tmp_path, *asked, code=READY)
    assert running.stdout.readline() == "heard\n"
    took, complaint = interrupt(running, after)
    assert (running.returncode, complaint) == (INTERRUPTED, "zcb: interrupted\n")
    assert took < 2


LIGHT = """
import sys
before = set(sys.modules)
import harness.cli
print(*sorted(m for m in {*sys.modules} - before if m.partition(".")[0] not in ("harness",)))
"""


def test_little_is_imported_before_ctrl_c_is_heard():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True)
    assert {"click", "msgspec", "importlib.metadata", "obstore", "numpy"}.isdisjoint(done.stdout.split())


STUCK = """
import click, ctypes, sys
from harness.cli import group

@click.command()
def stuck():
    print("stuck", flush=True)
    {}

group.zcb.add_command(stuck)
sys.argv[1:] = ["stuck"]
from harness.cli import command; command()
"""


@pytest.mark.parametrize("body", ["ctypes.CDLL(None).usleep(30_000_000)", "while True: sys.stdin.isatty()"])
def test_ctrl_c_ends_a_command_that_is_inside_a_library(tmp_path, body):
    running = start(tmp_path, code=STUCK.format(body))
    assert running.stdout.readline() == "stuck\n"
    took, complaint = interrupt(running, 0)
    assert (running.returncode, complaint) == (INTERRUPTED, "zcb: interrupted\n")
    assert took < 2


def test_ctrl_c_leaves_time_to_clean_up(tmp_path):
    body = "try:\n        ctypes.CDLL(None).pause()\n    finally:\n        open('cleaned', 'w').close()"
    running = start(tmp_path, code=STUCK.format(body))
    assert running.stdout.readline() == "stuck\n"
    assert interrupt(running, 0.2)[1] == "zcb: interrupted\n"
    assert (tmp_path / "cleaned").exists()


def test_a_command_that_is_to_ignore_ctrl_c_still_does(tmp_path):
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{STUCK.format('import time; time.sleep(1)')}"
    running = start(tmp_path, code=code)
    assert running.stdout.readline() == "stuck\n"
    assert interrupt(running, 0)[1] == ""
    assert running.returncode == 0

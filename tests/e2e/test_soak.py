"""The soak: a short one of real readers, and that what it looks for is found when it is there."""

import json
import mmap
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.cli.soak import soak as command
from harness.errors import AnswerIsNoError, MeasurementError
from harness.measure import soak
from harness.measure.conductor import Conductor
from harness.measure.soak import HARNESS, STORE, Reading, Watched
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload import cases
from setup_data import presets, write
from setup_data.bucket import ensure_bucket
from tests.support.workloads import write_cases

MIB = 1 << 20
READERS = ["zarr-python+obstore", "tensorstore"]
CYCLE = cases.load().used("soak")


def cycle_of(monkeypatch, folder, *patterns):
    """Let the command's cycle hold the first case of each pattern only; return those."""
    cycle = [next(case for case in CYCLE if case.pattern == name) for name in patterns]
    write_cases(folder / "workloads.toml", *cycle)
    monkeypatch.setenv("ZCB_WORKLOADS", str(folder / "workloads.toml"))
    return cycle


@pytest.fixture
def target(embedded_store, monkeypatch, tmp_path):
    """The embedded target with the preset tiny, and a state directory for what the soak keeps."""
    monkeypatch.setenv("ZCB_PRESET", "tiny")
    found = resolve("embedded")
    ensure_bucket(found)
    for spec in presets.specs("tiny", ("small", "large")):
        write.write(open_store(found), spec)
    return found


def test_a_short_soak_leaves_nothing(target, monkeypatch, tmp_path):
    cycle = cycle_of(monkeypatch, tmp_path, "chunks_of_one_shard", "random_crops")
    result = CliRunner().invoke(
        command, ["--minutes", "0.15", "--readers", ",".join(READERS), "--json"], standalone_mode=False
    )
    assert not isinstance(result.exception, MeasurementError), result.exception
    found = json.loads(result.stdout)
    assert found["left"] == []  # no process, no open file, no connection, no temporary file
    assert found["cycles"] >= 3
    assert found["samples"] >= found["cycles"] * len(cycle) * len(READERS)
    assert found["in_flight"] == 100
    processes = {each["name"]: each for each in found["processes"]}
    assert {HARNESS, STORE, *READERS} <= set(processes)
    for name, each in processes.items():
        readings = each["readings"]
        assert len({reading["pid"] for reading in readings}) == 1, name  # the same process from first to last
        assert len(readings) == found["cycles"]
    # A cycle opens and closes everything once more, so that a leak of one file a sample would be many.
    for name in (HARNESS, STORE):
        files = [reading["files"] for reading in processes[name]["readings"]]
        assert max(files[1:]) - min(files[1:]) < len(cycle) * (len(files) - 2) + 200 * (name == STORE), name
    assert (result.exception is None) == (not any(each["complaints"] for each in found["processes"]))


def test_a_reader_that_fails_ends_the_soak(target, monkeypatch):
    monkeypatch.setattr("harness.measure.conductor.OPEN_SECONDS", 0.0)
    with pytest.raises(MeasurementError, match="failed on chunks_of_one_shard"):
        soak.soak(target, ["zarr-python+obstore"], CYCLE, seconds=0, in_flight=1)


# --- what it looks for is found


def series(*, hours=0.5, count=60, grows=0.0, scatter=2.0, warms=0.0, files=20.0, files_grow=0.0, seed=1):
    """Readings of a process whose memory grows by `grows` MiB an hour, after it has warmed up by `warms` MiB."""
    chance = random.Random(seed)
    readings = []
    for number in range(count):
        passed = hours * number / (count - 1)
        memory = 200 + grows * passed + scatter * chance.gauss(0, 1) + warms * min(1.0, 6 * passed)
        readings.append(
            Reading(
                seconds=passed * 3600,
                pid=1,
                memory_bytes=round(memory * MIB),
                files=round(files + files_grow * passed),
                threads=1,
            )
        )
    return readings


def judged(**options):
    processes = [Watched(name=str(number), readings=series(seed=number)) for number in range(10)]
    processes[0] = Watched(name="0", readings=series(**options))
    soak.judge(processes)
    return processes


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("scatter", [0.0, 0.2, 2.0, 20.0])
def test_flat_memory_is_called_flat(seed, scatter):
    processes = judged(scatter=scatter, warms=50, seed=seed)
    assert [each.complaints for each in processes] == [[]] * 10
    memory = processes[0].memory
    assert memory is not None
    assert memory.low <= memory.value <= memory.high


@pytest.mark.parametrize(("grows", "scatter"), [(10, 0.0), (20, 0.5), (60, 2.0), (600, 20.0)])
def test_growing_memory_is_found(grows, scatter):
    processes = judged(grows=grows, scatter=scatter)
    (complaint,) = processes[0].complaints
    assert complaint.startswith("its memory grows by ")
    assert not any(each.complaints for each in processes[1:])
    memory = processes[0].memory
    assert memory is not None
    assert memory.low < grows * MIB / 3600 < memory.high or scatter == 0.0


def test_files_that_are_never_closed_are_found():
    (complaint,) = judged(files_grow=60)[0].complaints
    assert complaint.startswith("its open files grow by ")


def test_another_process_is_noticed():
    readings = series()
    changed = [*readings[:-1], Reading(seconds=1800, pid=2, memory_bytes=1, files=1, threads=1)]
    processes = [Watched(name="x", readings=changed)]
    soak.judge(processes)
    assert "it was not the same process throughout" in processes[0].complaints


def test_memory_is_what_is_allocated_not_what_is_mapped(tmp_path):
    def memory():
        watched = {}
        soak._note(watched, {"me": os.getpid()}, 0.0)
        return watched["me"].readings[0].memory_bytes

    size, before = 64 << 20, memory()
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        assert sum(mapped[::4096]) == 0
        assert memory() - before < size / 2
        held = np.ones(size, np.uint8)
        assert memory() - before > size / 2
        assert held.all()


def test_few_readings_say_nothing():
    assert soak.slope([(float(x), 1.0) for x in range(9)], 0.95) is None
    assert soak.slope([], 0.95) is None


def leaks(target, monkeypatch, leak):
    """Soak with something that leaves a trace in each cycle; return what was found."""
    real = Conductor.measure

    def measure(self, workload):
        leak()
        return real(self, workload)

    monkeypatch.setattr(Conductor, "measure", measure)
    return soak.soak(target, [], CYCLE[:1], seconds=0, in_flight=1)


@pytest.mark.parametrize("kind", ["file", "temporary file", "process"])
def test_what_stays_is_named(target, monkeypatch, kind):
    held = []
    acts = {
        "file": lambda: held.append(Path(os.devnull).open()),  # noqa: SIM115 - it leaks on purpose
        "temporary file": lambda: held.append(Path(tempfile.mkdtemp())),
        "process": lambda: held.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])),
    }
    try:
        found = leaks(target, monkeypatch, acts[kind])
    finally:
        for each in held:
            if isinstance(each, subprocess.Popen):
                each.kill()
                each.wait()
            elif not isinstance(each, Path):
                each.close()
    words = {"file": "open files of the harness", "temporary file": "temporary files", "process": "(python"}
    assert any(words[kind] in line for line in found.left), found.left


def test_the_command_says_no(target, monkeypatch, tmp_path):
    monkeypatch.setattr(soak, "judge", lambda processes: processes[0].complaints.append("its memory grows"))
    cycle_of(monkeypatch, tmp_path, "chunks_of_one_shard")
    result = CliRunner().invoke(command, ["--minutes", "0", "--readers", "zarr-python+obstore"], standalone_mode=False)
    assert isinstance(result.exception, AnswerIsNoError)
    assert "harness: its memory grows" in str(result.exception)
    assert "NOT flat" in result.stdout

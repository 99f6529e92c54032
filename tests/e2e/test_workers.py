"""Data sets written by processes of this machine: the same bytes as by threads, whoever is killed in the middle."""

import os
import signal
import subprocess
import sys
import time

import obstore
import psutil
import pytest
from obstore.store import MemoryStore

from harness.datasets import manifest
from harness.errors import BadUseError, StoreError
from harness.machine.cpu import cores
from harness.paths import ROOT
from harness.targets.client import open_store
from harness.targets.target import Target
from setup_data import cli, verify, workers, write
from setup_data.workers import Workers
from tests.e2e.test_setup_data import emptied, environment, make_spec, objects, once_after

SPEC = make_spec(name="shared", shape=(1024, 256, 256), chunk_shape=(1, 64, 64), shard_shape=(16, 64, 64))
SHARDS, BLOCK = 1024, 128  # 128 in a block of the ledger
CUSTOM = ("--name", "shared", "--shape", "1024,256,256", "--chunks", "1,64,64", "--shards", "16,64,64", "--seed", "5")
ZCB = """
from setup_data import workers
workers.LEAST_NBYTES = 0
from harness.cli import command
command()
"""


@pytest.fixture
def target(embedded_store):
    return emptied()


@pytest.fixture(scope="module")
def by_threads():
    store = MemoryStore()
    write.write(store, SPEC)
    return objects(store)


def create(target, *, in_flight=8, **options):
    return write.write(
        open_store(target), SPEC, store_shards=Workers(target, in_flight=in_flight).store_shards, **options
    )


def children(pid=None):
    """The processes that encode, of this one or of another; not those that ended."""
    return [one for one in psutil.Process(pid).children() if "spawn_main" in " ".join(command_of(one))]


def command_of(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it ended, or is about to be waited for
        return []


def has_a_part(target):
    """Whether a block is complete."""
    return len(obstore.list_with_delimiter(open_store(target), f"{SPEC.key}.manifest.parts/")["objects"]) > 1


def test_processes_write_the_same_bytes_and_this_one_no_shard(target, by_threads, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a shard was stored from here")

    seen = []
    monkeypatch.setattr(write.obstore, "put_async", refuse)
    report = create(target, advance=once_after(3, lambda: seen.append(len(children()))))
    monkeypatch.undo()
    assert (report.status, report.shards, report.skipped_shards) == ("written", SHARDS, 0)
    assert seen == [cores()]
    assert objects(open_store(target)) == by_threads
    assert verify.verify(open_store(target), manifest.find(open_store(target), "shared")).ok
    assert not children()


def test_what_was_begun_is_finished_and_what_is_there_is_not_written_again(target, by_threads):
    assert create(target, most_shards=BLOCK + 1).status == "unfinished"
    report = create(target)
    assert report.skipped_shards == BLOCK
    assert objects(open_store(target)) == by_threads
    assert create(target).status == "already written"


def test_a_killed_process_ends_the_run_in_one_line_and_the_next_resumes(target, by_threads):
    def kill(_):
        for one in children() if has_a_part(target) else []:
            one.kill()

    with pytest.raises(StoreError, match=r"died \(exit code -9\): run the same command to resume") as error:
        create(target, in_flight=2, advance=kill)
    assert "\n" not in str(error.value)
    assert not children()
    assert f"{SPEC.key}/zarr.json" not in objects(open_store(target))
    assert 0 < create(target).skipped_shards < SHARDS
    assert objects(open_store(target)) == by_threads


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_stopped_takes_its_processes_along(target, by_threads, number):
    command = [sys.executable, "-c", ZCB, "data", "create", "--target", "embedded", *CUSTOM, "--in-flight", "2"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while process.poll() is None:
            if has_a_part(target):
                started = children(process.pid)
                if number == signal.SIGINT:  # as a terminal sends it: to all of them
                    os.killpg(process.pid, number)
                else:
                    process.send_signal(number)
                break
            time.sleep(0.002)
        _, complaint = process.communicate()
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert complaint.decode().splitlines() == ["zcb: interrupted"] * (number == signal.SIGINT)
    assert started  # one that had fewer to wait for may have done all of its shards
    assert not psutil.wait_procs(started, timeout=30)[1]
    assert 0 < create(target).skipped_shards < SHARDS
    assert objects(open_store(target)) == by_threads


def test_a_store_that_is_gone(target):
    gone = Target(name="gone", url="s3://bench", endpoint="http://127.0.0.1:9", region="x", anonymous=True)
    with pytest.raises(StoreError) as error:
        write.write(open_store(target), SPEC, store_shards=Workers(gone, in_flight=2).store_shards)
    assert "\n" not in str(error.value)
    assert not children()


def test_what_is_wrong_with_a_process_is_told(target, monkeypatch):
    monkeypatch.setattr(workers, "_work", refuse_work)
    with pytest.raises(BadUseError, match="no work today"):
        create(target)
    assert not children()


def refuse_work(_task, results):
    results.send(BadUseError("no work today"))


@pytest.mark.parametrize(("processors", "in_flight"), [(2, 100), (16, 100), (16, 7), (96, 1)])
def test_uploads_and_memory_are_shared_out(target, monkeypatch, processors, in_flight):
    monkeypatch.setattr(workers, "cores", lambda: processors)
    tasks = Workers(target, in_flight=in_flight)._tasks(SPEC, list(enumerate(range(SHARDS))))
    assert len(tasks) == min(processors, in_flight)
    assert sum(task.in_flight for task in tasks) == in_flight
    assert max(task.in_flight for task in tasks) - min(task.in_flight for task in tasks) <= 1
    assert sum(task.budget for task in tasks) <= max(write.BUDGET, psutil.virtual_memory().total // 16)


@pytest.mark.parametrize(
    ("nbytes", "processors", "whole"), [(1 << 30, 2, True), (1 << 29, 2, False), (1 << 30, 1, False)]
)
def test_processes_are_for_large_arrays_and_more_than_one_core(target, monkeypatch, nbytes, processors, whole):
    monkeypatch.setattr(cli, "cores", lambda: processors)
    spec = make_spec(shape=(nbytes // 512, 16, 16), shard_shape=(4, 8, 16))
    with cli._spread(None, target, 8) as storing:
        assert (storing(spec) is not None) == whole

"""How many cores there are, and what control groups leave of their time: made-up trees, and a real group."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.machine import cpu

V2 = "0::{}\n"
V1 = "4:memory:/other\n3:cpu,cpuacct:{}\n2:cpuset:/\n0::/\n"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Make control groups: kind, this process' line, root of the mount, and each group's files."""

    def make(kind, membership, groups, root="/"):
        point = tmp_path / kind
        for group, files in groups.items():
            folder = point / group.strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text)
        options = "rw" if kind == "cgroup2" else "rw,cpu,cpuacct"
        mounts = f"24 1 0:22 / / rw - ext4 /dev/x rw\n36 24 0:30 {root} {point} rw shared:9 - {kind} {kind} {options}\n"
        (tmp_path / "mountinfo").write_text(mounts)
        (tmp_path / "membership").write_text(membership)
        monkeypatch.setattr(cpu, "_MOUNTS", tmp_path / "mountinfo")
        monkeypatch.setattr(cpu, "_MEMBERSHIP", tmp_path / "membership")

    return make


def limited(limit, period=100_000):
    return {"cpu.max": f"{limit} {period}\n"}


def limited_v1(limit, period=100_000):
    return {"cpu.cfs_quota_us": f"{limit}\n", "cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("path", "groups", "quota"),
    [
        ("/a/b", {"/": {}, "/a": {}, "/a/b": limited("max")}, None),
        ("/a/b", {"/": {}, "/a": {}, "/a/b": limited(50_000)}, 0.5),
        ("/a/b", {"/": {}, "/a": limited(25_000), "/a/b": limited(50_000)}, 0.25),  # a group above allows less
        ("/a/b", {"/": {}, "/a": limited(30_000, 20_000), "/a/b": limited("max")}, 1.5),
        ("/", {"/": limited(50_000)}, 0.5),  # a container's own root
        ("/../../host", {"/": limited(50_000)}, 0.5),  # a name from outside a container
        ("/gone", {"/": {}}, None),
    ],
)
def test_the_least_quota_of_a_group_and_those_above_counts(tree, path, groups, quota):
    tree("cgroup2", V2.format(path), groups)
    assert cpu.quota() == quota


@pytest.mark.parametrize(
    ("groups", "quota"),
    [
        ({"/a": limited_v1(-1), "/a/b": limited_v1(-1)}, None),
        ({"/a": limited_v1(-1), "/a/b": limited_v1(50_000)}, 0.5),
        ({"/a": limited_v1(20_000), "/a/b": limited_v1(50_000)}, 0.2),
    ],
)
def test_quotas_of_the_first_version_of_control_groups_are_seen(tree, groups, quota):
    tree("cgroup", V1.format("/a/b"), groups)
    assert cpu.quota() == quota


def test_a_mount_shows_the_tree_from_some_group_on(tree):
    tree("cgroup", V1.format("/docker/abc"), {"/": limited_v1(50_000)}, root="/docker/abc")
    assert cpu.quota() == 0.5


def test_without_control_groups_there_is_no_quota(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_MEMBERSHIP", tmp_path / "none")
    assert (cpu.quota(), cpu.throttled_periods()) == (None, None)
    assert cpu.cores() == cpu.allowed_cores() == cpu.capacity() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "capacity", "threads"), [(50_000, 0.5, 1), (150_000, 1.5, 1), (270_000, 2.7, 2), ("max", 4.0, 4)]
)
def test_threads_follow_the_quota(tree, monkeypatch, limit, capacity, threads):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    tree("cgroup2", V2.format("/a"), {"/": {}, "/a": limited(limit)})
    assert (cpu.capacity(), cpu.cores(), cpu.allowed_cores()) == (capacity, threads, 4)


def test_a_quota_of_more_cores_than_may_be_used_limits_nothing(tree, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    tree("cgroup2", V2.format("/a"), {"/": {}, "/a": limited(400_000)})
    assert (cpu.capacity(), cpu.cores()) == (1.0, 1)


def test_throttled_periods_are_those_of_all_groups_with_a_quota(tree):
    stat = "nr_periods 100\nnr_throttled {}\nthrottled_usec 5\n"
    groups = {
        "/": {"cpu.stat": stat.format(100)},  # no quota: its figures are none of ours
        "/a": limited(50_000) | {"cpu.stat": stat.format(20)},
        "/a/b": limited(60_000) | {"cpu.stat": stat.format(3)},
    }
    tree("cgroup2", V2.format("/a/b"), groups)
    assert cpu.throttled_periods() == 23


@pytest.fixture
def half_a_core():
    """A control group that allows half a core."""
    trees = {"cgroup.controllers": limited(50_000), "cpu.cfs_quota_us": limited_v1(50_000)}
    for point in ("/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
        group = Path(point) / f"zcb-test-{os.getpid()}"
        files = next((files for sign, files in trees.items() if (Path(point) / sign).exists()), None)
        if files is None:
            continue
        try:
            group.mkdir()
            for name, text in files.items():
                (group / name).write_text(text)
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no control group with a CPU quota can be made here")


SPIN = """
import os, sys, time
from harness.machine import cpu
open(sys.argv[1] + "/cgroup.procs", "w").write(str(os.getpid()))
before, end = cpu.throttled_periods(), time.monotonic() + 30  # beside busy programs it takes time to get so much
while cpu.throttled_periods() == before and time.monotonic() < end:
    pass
print(cpu.quota(), cpu.cores(), cpu.throttled_periods() - before)
"""


def test_a_real_quota_is_seen_and_so_is_what_it_does(half_a_core):
    done = subprocess.run(
        [sys.executable, "-c", SPIN, str(half_a_core)], capture_output=True, text=True, check=True, timeout=60
    )
    quota, threads, throttled = done.stdout.split()
    assert (quota, threads) == ("0.5", "1")
    assert int(throttled) >= 1


def test_the_thread_that_works_is_told_from_those_that_wait():
    with contextlib.closing(WorkingThread()) as one:
        before = cpu.thread_seconds()
        one.work()
        grown = {name: total - before.get(name, 0.0) for name, total in cpu.thread_seconds().items()}
        if not grown:
            pytest.skip("the kernel keeps no account of threads")
        assert max(grown, key=grown.__getitem__) == str(one.native_id)
        assert grown[str(one.native_id)] > 10 * grown[str(threading.get_native_id())]


class WorkingThread:
    """A thread that computes when it is told to."""

    def __init__(self):
        self.asked, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        self.native_id = self.thread.native_id

    def run(self):
        self.asked.wait()
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass
        self.done.set()
        time.sleep(0.5)  # those that have ended are not told of

    def work(self):
        self.asked.set()
        self.done.wait()

    def close(self):
        self.asked.set()
        self.thread.join()

"""Data sets written by a dask.distributed cluster: the same bytes as from here, whoever is killed in the middle."""

import os
import signal
import subprocess
import sys
import time

import obstore
import pytest
from distributed import LocalCluster
from obstore.store import MemoryStore

from harness.datasets import manifest
from harness.errors import BadUseError, StoreError
from harness.paths import ROOT
from harness.targets.client import open_store
from harness.targets.target import Target
from setup_data import cluster as clusters
from setup_data import presets, verify, write
from setup_data.cluster import Cluster
from setup_data.encode import encode_shard, shard_key, shards
from tests.e2e.test_setup_data import emptied, environment, make_spec, objects, once_after

SPEC = make_spec(name="spread", shape=(256, 256, 256), chunk_shape=(1, 64, 64), shard_shape=(16, 64, 64))
SHARDS = 256  # in two blocks of the ledger


def local_cluster(**options):
    place = {"protocol": "tcp", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    return LocalCluster(threads_per_worker=1, **place, **options)


@pytest.fixture(scope="module")
def cluster(embedded_store):
    """Two workers, each a process with a nanny that replaces it when it dies."""
    with local_cluster(n_workers=2) as made:
        yield made


@pytest.fixture
def target(embedded_store):
    return emptied()


@pytest.fixture(scope="module")
def written_here():
    """What the local writer stores."""
    store = MemoryStore()
    write.write(store, SPEC)
    return objects(store)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr("setup_data.ledger._LEAST_BLOCK", 4 * SPEC.shard_nbytes)


def spread(cluster, target, *, spec=SPEC, in_flight=8, **options):
    with Cluster(cluster.scheduler_address, target, in_flight=in_flight) as connected:
        return write.write(open_store(target), spec, store_shards=connected.store_shards, **options)


def test_a_cluster_writes_the_same_bytes_and_this_process_no_shard(cluster, target, written_here, monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a shard was stored from here")

    monkeypatch.setattr(write.obstore, "put_async", refuse)
    report = spread(cluster, target)
    monkeypatch.undo()
    assert (report.status, report.shards, report.skipped_shards) == ("written", SHARDS, 0)
    assert objects(open_store(target)) == written_here
    assert verify.verify(open_store(target), manifest.find(open_store(target), "spread")).ok


def test_a_task_streams_a_large_shard_to_the_same_bytes(target, monkeypatch):
    monkeypatch.setattr(write, "_WHOLE_NBYTES", 0)
    spec = presets.specs("tiny")[1]
    here = MemoryStore()
    for shard in shards(spec):
        encoded = clusters._task(target, spec, shard, clusters._makers())
        body = encode_shard(spec, shard)
        assert encoded.nbytes == len(body)
        obstore.put(here, shard_key(spec, shard), body)
    assert objects(open_store(target)) == objects(here)


def test_a_killed_worker_costs_nothing_but_time(cluster, target, written_here):
    victim = cluster.workers[0].pid
    report = spread(cluster, target, advance=once_after(20, lambda: os.kill(victim, signal.SIGKILL)))
    assert report.status == "written"
    assert objects(open_store(target)) == written_here
    until = time.monotonic() + 60
    while cluster.workers[0].pid in (None, victim) and time.monotonic() < until:
        time.sleep(0.05)
    assert cluster.workers[0].pid != victim  # it really died


def test_killed_in_the_middle_it_resumes_to_the_same_bytes(cluster, target, written_here):
    custom = ["--name", "spread", "--shape", "256,256,256", "--chunks", "1,64,64", "--shards", "16,64,64"]
    arguments = ["data", "create", "--target", "embedded", *custom, "--seed", "5"]
    command = [sys.executable, "-m", "harness.cli", *arguments, "--in-flight", "4", "--dask", cluster.scheduler_address]
    parts = f"{SPEC.key}.manifest.parts/"
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if len(obstore.list_with_delimiter(open_store(target), parts)["objects"]) > 1:  # the spec and a part
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL
    assert f"{SPEC.key}/zarr.json" not in objects(open_store(target))
    report = spread(cluster, target)
    assert 0 < report.skipped_shards < report.shards == SHARDS
    assert objects(open_store(target)) == written_here


@pytest.mark.usefixtures("small_blocks")
def test_a_local_run_goes_on_where_a_cluster_stopped(cluster, target, written_here):
    assert spread(cluster, target, most_shards=10).status == "unfinished"
    report = write.write(open_store(target), SPEC)
    assert report.skipped_shards == 8  # two blocks of four; the last two shards' block was not complete
    assert objects(open_store(target)) == written_here


# --- trouble


def zcb(*arguments, **variables):
    """Run the command; returns (exit code, stdout, the one line on stderr)."""
    command = [sys.executable, "-m", "harness.cli", "data", "create", "--target", "embedded", "--preset", "tiny"]
    done = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=environment() | variables, capture_output=True, text=True, check=False
    )
    (line,) = done.stderr.strip().splitlines()
    return done.returncode, done.stdout, line


def test_an_unreachable_scheduler(target):
    code, out, line = zcb("--dask", "tcp://127.0.0.1:9")
    assert (code, out) == (3, "")
    assert line.startswith("zcb: cannot reach a dask scheduler at tcp://127.0.0.1:9")
    assert objects(open_store(target)) == {}


def test_dask_is_not_installed(target, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadUseError, match=r"not installed: run `pip install distributed`"):
        Cluster("tcp://127.0.0.1:9", target, in_flight=1)


@pytest.mark.parametrize(
    "address", ["", " ", "host", "tcp://", "tcp://host", "tcp://host:0", "tcp://h:99999", "ftp://h:1", "h:1/x", "h:x"]
)
def test_addresses_that_are_none(target, address):
    with pytest.raises(BadUseError, match="is not the address of a dask scheduler"):
        Cluster(address, target, in_flight=1)


def test_tls_without_a_certificate(target):
    with pytest.raises(BadUseError, match=r"set distributed\.comm\.tls"):
        Cluster("tls://127.0.0.1:9", target, in_flight=1)


def test_a_cluster_without_workers(target):
    with local_cluster(n_workers=0) as empty:
        code, out, line = zcb("--dask", empty.scheduler_address)
    assert (code, out) == (3, "")
    assert "has no workers: start some (`dask worker tcp://" in line
    assert objects(open_store(target)) == {}


def test_workers_that_would_write_other_bytes(cluster, target, monkeypatch):
    monkeypatch.setattr(clusters, "version", lambda _: "0.0.1")
    with pytest.raises(BadUseError, match=r"a dask worker has numcodecs \S+ instead of 0\.0\.1"):
        spread(cluster, target)
    assert f"{SPEC.key}/zarr.json" not in objects(open_store(target))


def test_a_store_that_workers_cannot_reach(cluster, target):
    down = Target(name="embedded", url=target.url, endpoint="http://127.0.0.1:9", region="us-east-1", anonymous=True)
    with (
        Cluster(cluster.scheduler_address, down, in_flight=2) as connected,
        pytest.raises(StoreError, match=r"cannot reach http://127\.0\.0\.1:9"),
    ):
        write.write(MemoryStore(), SPEC, store_shards=connected.store_shards)


def die(*_):
    os._exit(1)


def test_a_shard_that_kills_its_workers(cluster, target, monkeypatch):
    monkeypatch.setattr(clusters, "_task", die)
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(StoreError, match="dask workers died over the same shard: 1"):
        spread(cluster, target, in_flight=1)


def test_a_scheduler_that_goes_away(target):
    with local_cluster(n_workers=1) as made:
        with pytest.raises(StoreError, match=r"the dask scheduler at tcp://\S+ is gone") as error:
            spread(made, target, advance=once_after(5, made.close))
        assert "\n" not in str(error.value)
    assert f"{SPEC.key}/zarr.json" not in objects(open_store(target))

"""Hostile environments: whatever a user's machine has set, the same requests go to the same place.

`tests/unit/machine/test_environment.py` holds the variables of a worker equal for each of them; here workers read.
"""

import json
import os
import random
import subprocess
import sys

import msgspec
import psutil
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.machine import environment
from harness.measure.process import WorkerProcess
from harness.paths import ROOT
from harness.readers import benchmarked, limit_clients, reader_class
from harness.store.control import StoreControl
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support import hostile
from tests.support.data import create

READERS = benchmarked()

READER = "zarr-python+obstore"
TIMEOUT = 60.0
FEW = 3
SEEN_TO_BEND = {
    "ZARR_CODEC_PIPELINE__PATH": READER,
    "ZARR_ARRAY__SHARDING_COALESCE_MAX_GAP_BYTES": READER,
    "ZARR_CONFIG": READER,
    "AWS_ENDPOINT_URL_S3": READER,
    "http_proxy": "zarr-python+fsspec",
    "PYTHONASYNCIODEBUG": READER,
    "PYTHONPATH": READER,
    "HOME": READER,
}
"""Each of them alone, with a reader that heeded it; of all others the worker's variables are compared."""

DIFFERENT = {
    "HOME",
    "ZARR_ROOT_CONFIG",
    "DASK_ROOT_CONFIG",
    "ZCB_CONDUCTOR_PID",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    *hostile.LET_IN,
}
"""What workers may have from outside, and what each has of its own."""


@pytest.fixture(scope="module")
def workload(embedded_store):
    create("--preset", "tiny", "--as", "icechunk")
    return create_workload(
        "chunks_of_one_shard", resolve("embedded"), dataset="tiny/small", parameters=Parameters(gap=1)
    )


@pytest.fixture
def elsewhere():
    with hostile.elsewhere() as found:
        yield found


@pytest.fixture
def bad(elsewhere, tmp_path, monkeypatch):
    """Hostile variables, and a home folder with hostile files; a client in the test's own process is not the matter."""
    monkeypatch.setattr(environment, "_set_aside", {})
    hostile.files(tmp_path, elsewhere.address)
    return hostile.variables(elsewhere.address, tmp_path) | hostile.LET_IN | {"HOME": str(tmp_path)}


@pytest.fixture(scope="module")
def executed(workload, embedded_store):
    """Read once on a warm worker and return what the store was asked for, the versions that read, its variables."""
    with StoreControl(embedded_store.control) as control:

        def run(reader, *works, **variables):
            worker = WorkerProcess(reader_class(reader), variables)
            try:
                asked = [_asked(worker, work, control) for work in works or [workload]]
                given = psutil.Process(worker.pid).environ()
            finally:
                worker.stop()
            return *asked, {name: value for name, value in given.items() if name not in DIFFERENT}

        yield run


def _asked(worker, work, control):
    opened = worker.require({"op": "open", "workload": msgspec.to_builtins(work)}, timeout=TIMEOUT)
    sample = {"op": "sample", "variant": opened["variants"][0]}
    worker.require(sample | {"discard": True}, timeout=TIMEOUT)
    control.mark("sealed", log=True)
    worker.require(sample, timeout=TIMEOUT)
    requests = [(one.method, one.key, one.kind, one.range, one.bytes) for one in control.requests("sealed")]
    assert requests
    return sorted(requests), opened["versions"]


@pytest.fixture(scope="module")
def clean(executed):
    return {reader: executed(reader) for reader in dict.fromkeys(SEEN_TO_BEND.values())}


def under(monkeypatch, bad, names):
    for name in names:
        monkeypatch.setenv(name, bad[name])


@pytest.mark.parametrize("name", SEEN_TO_BEND)
def test_requests_bytes_and_versions_are_those_of_a_clean_environment(
    name, clean, executed, bad, elsewhere, monkeypatch
):
    under(monkeypatch, bad, [name])
    reader = SEEN_TO_BEND[name]
    assert executed(reader) == clean[reader]
    assert elsewhere.connections == 0


@pytest.mark.parametrize("seed", range(FEW))
def test_so_they_are_under_a_random_few(seed, clean, executed, bad, elsewhere, monkeypatch):
    under(monkeypatch, bad, random.Random(seed).sample(sorted(bad), 12))
    assert executed(READER) == clean[READER]
    assert elsewhere.connections == 0


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS, *limit_clients()])
def test_every_reader_connects_to_the_target_alone_whatever_is_set(
    reader, executed, bad, elsewhere, monkeypatch, workload, rust_reader
):
    """Without signatures, and then with them: with credentials, beside a configuration file that says where to look."""
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    signed = msgspec.structs.replace(workload, target=msgspec.structs.replace(workload.target, anonymous=False))
    under(monkeypatch, keys, keys)
    asked = executed(reader, workload, signed)
    under(monkeypatch, bad, bad)
    assert executed(reader, workload, signed) == asked
    assert elsewhere.connections == 0


def test_a_setting_that_is_let_in_does_bend(clean, executed):
    requests, plain = executed(READER, ZARR_ARRAY__SHARDING_COALESCE_MAX_GAP_BYTES="0")[0][0], clean[READER][0][0]
    assert len(requests) > len(plain)


def test_a_command_says_what_it_left_out_and_what_it_let_in(workload, bad, elsewhere, tmp_path):
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(workload))
    gap = "ZARR_ARRAY__SHARDING_COALESCE_MAX_GAP_BYTES"
    names = [gap, "ZARR_CODEC_PIPELINE__PATH", "AWS_ENDPOINT_URL_S3", "http_proxy"]
    given = {**os.environ, "PYTHONPATH": str(ROOT)} | {name: bad[name] for name in names}
    command = [sys.executable, "-m", "harness.cli", "read", READER, str(file), "--samples", "1", "--json"]
    reports = []
    for options in ([], ["--env", gap]):
        done = subprocess.run([*command, *options], env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        told = [line for line in done.stderr.splitlines() if "left out" in line]
        assert len(told) == 1
        assert [name in told[0] for name in names] == [not options, True, True, True]
        assert elsewhere.address not in done.stderr
        reports.append(json.loads(done.stdout))
    assert [gap in report["environment"] for report in reports] == [False, True]
    assert reports[0]["samples"][0]["requests"] < reports[1]["samples"][0]["requests"]
    assert elsewhere.connections == 0


@pytest.mark.parametrize("name", ["http_proxy", "AWS_ENDPOINT_URL_S3", "NOT_SET_ANYWHERE"])
def test_what_cannot_be_let_in_is_refused_in_a_line(workload, tmp_path, monkeypatch, name):
    if name != "NOT_SET_ANYWHERE":
        monkeypatch.setenv(name, "http://192.0.2.1:1")
    file = tmp_path / "w.json"
    file.write_bytes(workloads.encode(workload))
    done = CliRunner().invoke(zcb, ["read", READER, str(file), "--env", name])
    assert done.exception.exit_code == 2
    assert str(done.exception).startswith(f"--env {name}: ")

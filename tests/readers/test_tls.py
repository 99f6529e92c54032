"""TLS: every reader trusts the store's own authority by a public setting, and nobody who does not trust it reads."""

import subprocess
import sys

import msgspec
import pytest

from harness.errors import MeasurementError
from harness.measure.conductor import Conductor, Plan
from harness.measure.process import WorkerProcess
from harness.paths import ROOT
from harness.readers import benchmarked, reader_class
from harness.results.sample import NETWORK_LIMIT
from harness.store import lifecycle
from harness.store.control import StoreControl
from harness.store.lifecycle import StoreSettings
from harness.store.state import KEY_VARIABLES
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters

SIGNED = [False, True]
LIMIT_IN_RUST = "network-limit+rust"
WITHOUT_RETRIES = ["zarr-python+fsspec", "tensorstore", LIMIT_IN_RUST]
"""Readers that give up at once where a certificate is not trusted."""


@pytest.fixture(scope="module", params=SIGNED, ids=["tls", "tls-signed"])
def store(request, store_binary, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZCB_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        for name in KEY_VARIABLES:
            patch.setenv(name, "key of a test") if request.param else patch.delenv(name, raising=False)
        state = lifecycle.start(StoreSettings(profile="loopback", tls=True, auth=request.param))
        try:
            # In a process of its own: what trusts by the environment does so for good.
            create = ["data", "create", "--target", "embedded", "--preset", "tiny", "--as", "icechunk"]
            subprocess.run([sys.executable, "-m", "harness.cli", *create], check=True, cwd=ROOT)
            yield state
        finally:
            lifecycle.stop()


@pytest.fixture(scope="module")
def workload(store):
    target = resolve("embedded:loopback+tls" + "+signed" * store.auth)
    return create_workload(
        "chunks_of_one_shard", target, dataset="tiny/small", parameters=Parameters(gap=1), in_flight=4
    )


@pytest.mark.slow
def test_every_reader_reads_by_tls_and_counts_like_the_store(workload, rust_reader):
    with Conductor(benchmarked(), plan=Plan(samples=1, trials=1)) as conductor:
        rows = {row.reader: row for row in conductor.measure(workload)}
    assert set(rows) == {*benchmarked(), NETWORK_LIMIT}
    assert {name: row.error or row.na for name, row in rows.items() if row.error or row.na} == {}
    assert all(sample.verified and sample.requests for row in rows.values() for sample in row.samples)


@pytest.mark.slow
def test_the_limit_in_rust_fetches_by_every_plan_and_counts_like_the_store(store, workload, rust_reader):
    worker = WorkerProcess(reader_class(LIMIT_IN_RUST), {})
    try:
        with StoreControl(store.control) as control:
            for variant in worker.open(workload, timeout=60.0)["variants"]:
                control.mark("limit")
                answer = worker.require({"op": "sample", "variant": variant}, timeout=60.0)
                seen, counts = control.since("limit"), answer["timed"]["request_counts"]
                assert (counts["requests"], counts["fetched_bytes"]) == (seen.requests, seen.bytes_out), variant
                assert counts["requests"] > counts["retries"] == 0
    finally:
        worker.stop()


@pytest.mark.slow
def test_who_does_not_trust_the_authority_reads_nothing(workload):
    unknown = msgspec.structs.replace(workload, target=msgspec.structs.replace(workload.target, ca=None))
    request = {"op": "open", "workload": msgspec.to_builtins(unknown)}
    for reader in WITHOUT_RETRIES:
        worker = WorkerProcess(reader_class(reader), {})
        try:
            with pytest.raises(MeasurementError, match=r"(?i)certificate"):  # noqa: PT012 - one of them, by reader
                worker.require(request, timeout=60.0)
                worker.require({"op": "sample", "discard": True}, timeout=60.0)
        finally:
            worker.stop()

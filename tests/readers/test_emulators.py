"""Each cloud on its own emulator: data written and verified, and every reader on the three patterns."""

import pytest
from click.testing import CliRunner

from harness.errors import StoreError
from harness.measure.conductor import Conductor, Plan
from harness.readers import benchmarked, reader_class
from harness.results.sample import NETWORK_LIMIT
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from setup_data.cli import data
from tests.support import emulators

READERS = benchmarked()

pytestmark = pytest.mark.timeout(3600)  # the first to need an emulator builds it

EMULATORS = {"s3": emulators.versitygw, "az": emulators.azurite, "gs": emulators.fake_gcs}
WRITABLE = ("s3", "az")


PATTERNS = [
    ("whole_array", "tiny/large", Parameters()),
    ("chunks_of_one_shard", "tiny/small", Parameters(gap=1)),
    ("chunks_of_many_shards", "tiny/small", Parameters(shards=4)),
]


def reasons(scheme):
    """Readers that say n/a at an emulator of a cloud, and what their reason names."""
    readers = {name: reader_class(name) for name in benchmarked()}
    elsewhere = {name: "another address" for name, reader in readers.items() if scheme in reader.only_own_address}
    return elsewhere | {name: reader.unread[scheme] for name, reader in readers.items() if scheme in reader.unread}


def run(*arguments):
    done = CliRunner().invoke(data, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module", params=list(EMULATORS))
def cloud(request, tmp_path_factory):
    """The scheme of a cloud whose emulator holds the tiny data sets, under the target `cloud`."""
    folder = tmp_path_factory.mktemp("emulator")
    with EMULATORS[request.param](folder) as running, pytest.MonkeyPatch.context() as patch:
        (folder / "targets.toml").write_text(f"[cloud]\n{running.table}")
        patch.setenv("ZCB_TARGETS", str(folder / "targets.toml"))
        for name, value in running.environment.items():
            patch.setenv(name, value)
        if request.param in WRITABLE:
            assert run("create", "--target", "cloud", "--preset", "tiny").count(" written: ") == 4
        yield request.param


def test_data_verify(cloud):
    assert run("verify", "--target", "cloud", "--truth").count(" verifies: ") == 4


@pytest.mark.usefixtures("rust_reader")
@pytest.mark.parametrize(("pattern", "dataset", "asked"), PATTERNS)
def test_every_reader_reads_the_right_arrays_or_says_why_not(cloud, pattern, dataset, asked):
    work = create_workload(pattern, resolve("cloud"), dataset=dataset, parameters=asked)
    with Conductor(READERS, plan=Plan(samples=1, trials=1)) as conductor:
        rows = {row.reader: row for row in conductor.measure(work)}
    assert {name: row.error for name, row in rows.items() if row.error} == {}
    cannot = {name: row.na for name, row in rows.items() if row.na}
    assert cannot.keys() == reasons(cloud).keys()
    assert all(reason in cannot[name] for name, reason in reasons(cloud).items())
    for name in rows.keys() - cannot.keys():
        assert rows[name].samples
        for sample in rows[name].samples:
            assert sample.verified
            assert sample.array_bytes == work.array_bytes
            client = reader_class(rows[name].variant.partition(" ")[0] or name)
            assert (sample.requests is None) == (not client.counts_alone(work.target))
            assert sample.fetched_bytes is None or sample.fetched_bytes >= work.wanted_bytes
            assert sample.retries in (0, None)


@pytest.mark.parametrize("name", [NETWORK_LIMIT, "zarr-python+obstore"])
def test_an_index_costs_one_request_and_its_size_another_where_suffixes_are_unknown(cloud, name):
    work = create_workload(
        "chunks_of_many_shards", resolve("cloud"), dataset="tiny/small", parameters=Parameters(shards=4)
    )
    reader = reader_class(name)()
    reader.open(work)
    reader.reset_request_counts()
    reader.check(work, reader.read())
    request_counts = reader.request_counts()
    reader.close()
    assert request_counts.index_requests == work.wanted_shards == 4
    assert request_counts.head_requests == (4 if cloud == "az" else 0)
    assert request_counts.requests > request_counts.index_requests + request_counts.head_requests


def test_wrong_credentials_are_refused_in_a_line(cloud, monkeypatch):
    if cloud not in WRITABLE:
        pytest.skip("this emulator asks nobody for credentials")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(StoreError, match="refuses these credentials") as error:
        run("verify", "--target", "cloud")
    assert "\n" not in str(error.value)
    assert "wrong" not in str(error.value)
    assert "d3Jvbmc=" not in str(error.value)

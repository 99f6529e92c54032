"""Costs: the table, the formula held to sums done by hand, and what the command takes."""

import datetime
import json

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli.cost import cost as command
from harness.cloud import cost
from harness.cloud.cost import StoragePrice, VmPrice
from harness.errors import AnswerIsNoError, BadUseError
from harness.paths import ROOT
from setup_data import presets
from tests.support import fake_cloud, passes

DAY = datetime.date(2026, 1, 2)
STORAGE = StoragePrice(
    scheme="s3",
    region="r",
    get_per_1000=0.4,
    put_per_1000=5.0,
    gb_month=30.0,
    same_region_gb=0.0,
    other_region_gb=1.0,
    gets_per_second=100,
    read=DAY,
    source="-",
)
VM = VmPrice(type="big", cloud="aws", region="r", dollars_per_hour=3.6, gbit_s=100, read=DAY, source="-")
GIB = 2**30


def test_a_tib_by_hand():
    # A GiB in a second and 1000 requests: a TiB takes 1024 s and 1,024,000 requests.
    samples = [passes.sample(1.0, 0.5, GIB, requests=1000)]
    found = cost.spent(samples, VM, STORAGE)
    assert found is not None
    assert found.vm == pytest.approx(1024 / 3600 * 3.6)  # $1.024
    assert found.requests == pytest.approx(1024 * 0.4)  # $409.60
    assert found.total == pytest.approx(410.624)


def test_the_median_sample_counts():
    seconds = [1.0, 2.0, 90.0]
    found = cost.spent([passes.sample(s, 0.5, GIB, requests=0) for s in seconds], VM, STORAGE)
    assert found is not None
    assert found.total == pytest.approx(2 * 1.024)


def test_requests_that_nobody_counted_are_not_free():
    assert cost.spent([passes.sample(1.0, 0.5, GIB, requests=None)], VM, STORAGE) is None
    assert cost.spent([], VM, STORAGE) is None


def test_a_run_by_hand():
    # tiny/small: 8 x 8 shards of 2 MiB in all; its Morton variant 4 x 4; large: 2 x 2 of 4 MiB; its variant 1 x 2.
    found = cost.expect(presets.specs("tiny"), 2.0, VM, STORAGE)
    assert found.put_requests == 64 + 16 + 4 + 2 + 4 * 2  # and metadata and a manifest each
    assert found.puts == pytest.approx(94 / 1000 * 5)
    assert found.vm == pytest.approx(7.2)
    assert found.gets == pytest.approx(2 * 3600 * 100 / 1000 * 0.4)
    assert found.stored_gb == pytest.approx((2 * 2 * 2**20 + 2 * 4 * 2**20) / 1e9)
    assert found.storage_per_day == pytest.approx(found.stored_gb * 30 / 30)
    assert found.total == pytest.approx(found.vm + found.puts + found.gets + found.storage_per_day)


def test_the_table_is_whole():
    prices = cost.load_prices()
    assert {row.scheme for row in prices.storage} >= {"s3", "gs"}
    assert {row.cloud for row in prices.vm} >= {"aws", "gcp"}
    assert len({row.type for row in prices.vm}) == len(prices.vm)
    for row in [*prices.storage, *prices.vm]:
        assert row.source.startswith("https://")
        assert row.read >= datetime.date(2026, 1, 1)
    for place in prices.storage:
        assert place.same_region_gb == 0 < place.other_region_gb
        assert 0 < place.get_per_1000 < place.put_per_1000
    assert any(row.gbit_s >= 200 for row in prices.vm)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("vm = 3", "Expected `array`"),
        ("[[storage]]\nscheme = 's3'", "missing required field"),
        ("not toml", "prices.toml"),
        ("storage = []\nvm = []\nother = 1", "unknown field `other`"),
    ],
)
def test_a_broken_table(tmp_path, text, says):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(BadUseError, match=says):
        cost.load_prices(path)


def test_a_negative_price(tmp_path):
    path = tmp_path / "prices.toml"
    path.write_text(cost.PRICES.read_text().replace("dollars_per_hour = 7.2576", "dollars_per_hour = -7.2576"))
    with pytest.raises(BadUseError, match="> 0"):
        cost.load_prices(path)


def run(*arguments: str):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def report(**fields):
    work = {"pattern": "whole_array", "array": {"key": "tiny/small"}, "target": {"url": "s3://a-bucket/x"}}
    sample = msgspec.to_builtins(passes.sample(1.0, 0.5, GIB, requests=1000))
    return {"schema": 1, "reader": "zarrs", "workload": work, "samples": [sample]} | fields


def test_a_report(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(report()))
    (row,) = json.loads(run(path, "--vm", "c6in.32xlarge", "--json").stdout)["rows"]
    prices = cost.load_prices()
    gets, vm = prices.of_storage("s3").get_per_1000, prices.of_vm("c6in.32xlarge").dollars_per_hour
    assert row["dollars_per_tib"] == {
        "requests": pytest.approx(1024 * gets),
        "vm": pytest.approx(1024 / 3600 * vm),
        "total": pytest.approx(1024 * gets + 1024 / 3600 * vm),
    }
    assert (row["reader"], row["workload"], row["storage"]) == ("zarrs", "whole_array tiny/small", "s3")
    shown = run(path, "--vm", "c6in.32xlarge").stdout
    assert "zarrs" in shown
    assert "check them" in shown


def test_several_reports_and_those_without_samples(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps([report(), report(reader="other", samples=[], na="cannot")]))
    rows = json.loads(run(path, "--vm", "c6in.32xlarge", "--json").stdout)["rows"]
    assert [row["reader"] for row in rows] == ["zarrs"]


def test_an_asv_configuration_stands_for_its_passes(tmp_path):
    conf = json.loads((ROOT / "asv.releases.conf.json").read_text()) | {"results_dir": "results"}
    path = tmp_path / "asv.conf.json"
    path.write_text(json.dumps(conf))
    folder = tmp_path / "results" / "box" / "passes"
    folder.mkdir(parents=True)
    made = passes.run(rounds=3)
    for number, one in enumerate(made):
        (folder / f"{number}.pass").write_bytes(msgspec.json.encode(one))
    rows = json.loads(run(path, "--vm", "c6in.32xlarge", "--json").stdout)["rows"]
    assert len(rows) == sum(bool(row.samples) for one in made for row in one.rows)
    assert all(row["dollars_per_tib"]["total"] > 0 for row in rows)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[]", "no samples"),
        ("{", "is not JSON"),
        ("{}", "no report"),
        ('{"schema": 1, "reader": "x", "samples": [], "workload": {}}', "no report"),
        (json.dumps(report(schema=2)), "has schema 2"),
    ],
)
def test_files_that_are_no_results(tmp_path, content, says):
    path = tmp_path / "r.json"
    path.write_text(content)
    done = run(path, "--vm", "c6in.32xlarge")
    assert isinstance(done.exception, BadUseError)
    assert says in str(done.exception)


def test_other_bad_use(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    for arguments, says in (
        (["--vm", "nope"], "no price of the VM 'nope'"),
        (["--vm", "c6in.32xlarge", "--storage", "ftp"], "no prices of ftp"),
        (["--vm", "c6in.32xlarge", "--preset", "nope"], "unknown preset"),
        ([tmp_path / "none.json", "--vm", "c6in.32xlarge"], "cannot read"),
        (["x", "--vm", "c6in.32xlarge", "--at-most", "1"], "before a run"),
        ([], "no cloud's VM"),
    ):
        done = run(*arguments)
        assert isinstance(done.exception, BadUseError), arguments
        assert says in str(done.exception)


def test_too_much_is_a_no():
    assert isinstance(run("--vm", "c6in.32xlarge", "--at-most", "1").exception, AnswerIsNoError)
    assert run("--vm", "c6in.32xlarge", "--at-most", "1000").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "scheme"),
    [
        (["--vm", "c6in.32xlarge"], "s3"),
        (["--vm", "c3d-highcpu-180"], "gs"),
        (["--vm", "c3d-highcpu-180", "--storage", "s3"], "s3"),
    ],
)
def test_the_store_beside_the_vm_is_priced(arguments, scheme):
    assert json.loads(run(*arguments, "--json").stdout)["storage"]["scheme"] == scheme


def test_the_vm_that_this_is(monkeypatch):
    with fake_cloud.serving(fake_cloud.Cloud(vm_type="c7gn.16xlarge")) as cloud:
        for name, value in fake_cloud.environment(cloud).items():
            monkeypatch.setenv(name, value)
        assert json.loads(run("--json").stdout)["vm"]["type"] == "c7gn.16xlarge"

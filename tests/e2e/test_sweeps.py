"""``zcb sweep`` from the outside: real readers, a picture, a record, and one line for bad use."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.results.sample import NETWORK_LIMIT
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.readers.test_reads import create


@pytest.fixture(scope="module")
def work(embedded_store, tmp_path_factory):
    create("--preset", "tiny")
    made = create_workload(
        "chunks_of_one_shard", resolve("embedded"), dataset="tiny/small", parameters=Parameters(gap=1)
    )
    path = tmp_path_factory.mktemp("work") / "w.json"
    path.write_bytes(workloads.encode(made))
    return path


def run(*arguments):
    return CliRunner().invoke(zcb, ["sweep", *map(str, arguments)])


def test_a_sweep_measures_draws_and_is_kept(work, tmp_path):
    config = tmp_path / "asv.conf.json"
    config.write_text('{"version": 1, "project": "p", "repo": ".", "results_dir": "results"}')
    picture = tmp_path / "x.svg"
    asked = ("--readers", f"zarr-python+obstore,{NETWORK_LIMIT}", "--values", "3,1", "--samples", 2)
    done = run("in-flight", work, *asked, "--json", "-o", picture, "--keep", "--config", config)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert [reader["reader"] for reader in told["readers"]] == ["zarr-python+obstore", NETWORK_LIMIT]
    for reader in told["readers"]:
        assert [value["in_flight"] for value in reader["values"]] == [1, 3]
        assert all(len(value["samples"]) == 2 for value in reader["values"])
        assert all(sample["max_in_flight"] >= 1 for value in reader["values"] for sample in value["samples"])
        assert reader["knee"]["value"] in (1, 3)
    assert picture.read_text().startswith("<svg")
    assert len(list(tmp_path.glob("results/*/sweeps/*.sweep"))) == 1


@pytest.mark.parametrize("columns", [80, 120])
def test_the_terminal_holds_every_value(work, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run("in-flight", work, "--readers", "zarr-python+obstore", "--values", "1,800", "--samples", 1)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert {"1", "800"} <= {line.split()[0] for line in lines if line.strip()}
    assert lines[-1].startswith("zarr-python+obstore  knee at ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--values", "0"), "0 is not in the range"),
        (("--values", "1,x"), "not a valid integer"),
        (("--values", ""), "not a valid integer"),
        (("--values", ",".join(map(str, range(1, 60)))), "59 values are more than 40"),
        (("--samples", "2", "--sessions", "3"), "cannot be spread over"),
        (("-o", "x.png"), "does not end with .svg"),
        (("--config", "x.json"), "give both"),
        (("--readers", "network-limit+rust"), "ask for that"),
        (("--readers", "nobody"), "unknown reader"),
    ],
)
def test_bad_use_is_one_line(work, arguments, said):
    done = run("in-flight", work, *arguments)
    assert done.exit_code in (1, 2)
    assert said in f"{done.output} {done.exception}"

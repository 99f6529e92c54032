"""``zcb sweep`` from the outside: real readers, a picture, a record, and one line for bad use."""

import json
import re

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import BadUseError
from harness.results.sample import NETWORK_LIMIT
from harness.store import lifecycle, state
from harness.store.lifecycle import StoreSettings
from harness.targets.resolve import resolve
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support.data import create


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
    assert "once benchmarks have been run there (`make bench`): until then, -o draws it" in done.stderr
    told = json.loads(done.stdout)
    assert [reader["reader"] for reader in told["readers"]] == ["zarr-python+obstore", NETWORK_LIMIT]
    for reader in told["readers"]:
        assert [value["in_flight"] for value in reader["values"]] == [1, 3]
        assert all(len(value["samples"]) == 2 for value in reader["values"])
        assert all(sample["max_in_flight"] >= 1 for value in reader["values"] for sample in value["samples"])
        assert reader["knee"]["value"] in (1, 3)
    assert picture.read_text().startswith("<svg")
    assert len(list(tmp_path.glob("results/*/sweeps/*.sweep"))) == 1
    (tmp_path / "results" / "benchmarks.json").touch()  # as asv leaves it
    again = run("in-flight", work, *asked, "--keep", "--config", config)
    assert again.stderr.strip().endswith(".sweep")


def test_what_lies_beyond_a_sweep_stands_below_its_projection(work, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    kept = tmp_path / "sweep.json"
    kept.write_text(
        run("in-flight", work, "--readers", "tensorstore", "--values", "1,4", "--samples", 1, "--json").stdout
    )
    sweep = json.loads(kept.read_text())
    cores = min(sweep["cores"], sweep["machine_cores"])

    def said(*asked):
        done = CliRunner().invoke(zcb, ["project", str(kept), *map(str, asked)])
        assert done.exit_code == 0, done.output
        return [line for line in done.stdout.splitlines() if "beyond what was measured" in line]

    (far,) = said("--link-gbit-s", 1000, "--cores", 4096, "--in-flight", 800)
    assert far.startswith("800 in flight, 1000 Gbit/s and 4096 cores lie beyond what was measured: 1 to 4 in flight, ")
    assert far.endswith(f", {cores} cores." if cores > 1 else ", 1 core.")


@pytest.mark.parametrize("columns", [80, 120])
def test_the_terminal_holds_every_value(work, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run("in-flight", work, "--readers", "zarr-python+obstore", "--values", "1,800", "--samples", 1)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= columns
    assert {"1", "800"} <= {line.split()[0] for line in lines if line.strip()}
    assert re.match(r"zarr-python\+obstore  (knee at 1 |no knee up to 800: still rising)", lines[-1])


def test_the_first_round_is_measured_whatever_the_patience(work):
    done = run("in-flight", work, "--readers", "tensorstore", "--values", 4, "--samples", 2, "--patience", 0, "--json")
    assert done.exit_code == 0, done.output
    assert [len(value["samples"]) for value in json.loads(done.stdout)["readers"][0]["values"]] == [1]


@pytest.fixture
def own_work(own_state, tmp_path):
    lifecycle.start(StoreSettings(profile="loopback"))
    create("--preset", "tiny")
    made = create_workload(
        "chunks_of_one_shard", resolve("embedded"), dataset="tiny/small", parameters=Parameters(chunks=2)
    )
    path = tmp_path / "w.json"
    path.write_bytes(workloads.encode(made))
    return path


def test_a_sweep_over_gaps_changes_the_service_time_and_puts_it_back(own_work, tmp_path):
    before = state.require_running()
    picture = tmp_path / "x.svg"
    asked = ("--readers", "zarr-python+obstore", "--gaps", "1,2", "--first-byte-ms", "1,150", "--connection-mb-s", 1000)
    done = run("gap", own_work, *asked, "--samples", 1, "--json", "-o", picture)
    assert done.exit_code == 0, done.output
    cells = json.loads(done.stdout)["cells"]
    assert [cell["first_byte_ms"] for cell in cells] == [1, 150]
    for cell in cells:
        assert [pair["gap"] for pair in cell["pairs"]] == [1, 2]
        for pair in cell["pairs"]:
            assert [one["requests"] - one["index_requests"] for one in (*pair["merged"], *pair["separate"])] == [1, 2]
            assert pair["gap_bytes"] > 0
            assert pair["ratio"]["count"] == 1
    slow, fast = (cell["pairs"][0]["merged"][0]["seconds"] for cell in reversed(cells))
    assert slow > 2 * fast
    after = state.require_running()
    assert (after.endpoint, after.profile) == (before.endpoint, before.profile)
    assert picture.read_text().count('class="head"') == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--readers", "tensorstore"), "tensorstore has no setting for the gap: choose from zarr-python+fsspec"),
        (("--gaps", "5000"), "do not fit into a shard"),
    ],
)
def test_what_no_sweep_over_gaps_can_be_made_of_is_one_line(work, arguments, said):
    done = run("gap", work, *arguments)
    assert isinstance(done.exception, BadUseError)
    assert said in str(done.exception)


def test_a_pattern_without_gaps_and_another_target_are_refused(work, tmp_path):
    made = workloads.decode(work.read_bytes())
    for changed, said in (
        (msgspec.structs.replace(made, pattern="whole_array", parameters=Parameters()), "has no gap"),
        (msgspec.structs.replace(made, target=msgspec.structs.replace(made.target, name="other")), "only the embedded"),
    ):
        path = tmp_path / "w.json"
        path.write_bytes(workloads.encode(changed))
        done = run("gap", path)
        assert isinstance(done.exception, BadUseError)
        assert said in str(done.exception)

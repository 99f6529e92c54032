"""An array of a user's own, named as a case: what asv measures of it stands in the table and on the page of readers."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.paths import ROOT
from harness.results import records
from harness.site.pages import readers
from setup_data.cli import data

CASES = """
presets = ["tiny"]
[chunks_of_one_shard]
axes = ["dataset", "gap"]
verdict_seconds = 180
round_seconds = 20
cases = [{ dataset = "custom/mine", parameters = { gap = 1, chunks = 2 }, uses = ["asv"] }]
"""
ASV_PROCESS = """
from harness.asv import tracked
grid = tracked.grid("chunks_of_one_shard")
tracked.run_pass("chunks_of_one_shard", ["zarr-python+obstore", "zarrs"], grid.cases)
"""
"""What a class of benchmarks/ does in asv's process."""


@pytest.fixture
def config(embedded_store, rust_reader, tmp_path):
    """An asv configuration with the results of a pass over an array of one's own."""
    shapes = ["--shape", "16,16,16", "--chunks", "1,8,8", "--shards", "8,8,8"]
    arguments = ["create", "--target", "embedded", "--name", "mine", *shapes]
    done = CliRunner().invoke(data, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (tmp_path / "workloads.toml").write_text(CASES)
    path = tmp_path / "asv.conf.json"
    known = {"version": 1, "project": "x", "repo": "none", "dvcs": "git", "branches": ["main"], "build_command": ["a"]}
    path.write_text(json.dumps(known | {"results_dir": "results"}))
    settings = {
        "ZCB_WORKLOADS": str(tmp_path / "workloads.toml"),
        "ZCB_SAMPLES": "2",
        "ZCB_TARGET": "embedded",
        records.FOLDER_VARIABLE: str(tmp_path / "results" / "box" / "passes"),
    }
    subprocess.run([sys.executable, "-c", ASV_PROCESS], cwd=ROOT, env={**os.environ, **settings}, check=True)
    return path


@pytest.mark.slow
def test_an_array_of_ones_own_is_a_row_of_the_table_and_of_the_page(config, tmp_path):
    done = CliRunner().invoke(zcb, ["table", "--config", str(config), "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert {row["workload"] for row in rows} == {"chunks_of_one_shard mine gap=1 chunks=2"}
    measured = {row["reader"]: row["value"] for row in rows}
    assert {"zarr-python+obstore", "zarrs"} <= {name for name, value in measured.items() if value is not None}
    assert "mine gap=1 chunks=2" in CliRunner().invoke(zcb, ["table", "--config", str(config)]).stdout
    page = json.dumps(readers.payload(records.load(config), project="x"))
    assert "mine gap=1 chunks=2" in page

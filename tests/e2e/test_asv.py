"""Real asv on real zarr builds: two releases, the tiny data, and the results file read back."""

import json
import math
import os
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.asv import configurations, history
from harness.cli import zcb
from harness.errors import StoreError
from harness.paths import ROOT
from harness.readers import benchmarked, derived
from harness.results import records as passes
from harness.results.sample import NETWORK_LIMIT
from harness.workload import cases
from tests.support import asv_results
from tests.support.data import create
from tests.support.workloads import write_cases

CONFIGS = list(configurations.FILES)
RELEASES = ["3.2.1", "3.3.0"]
ONE_SHARD = "chunks_of_one_shard"
MEASURED = "ChunksOfOneShard|PlainWholeArray"
SAMPLES = 2
GAPS = (0, 3)
"""Of each array, among those of workloads.toml."""
LOOKED_UP = [
    r"\.ChunksOfOneShard\..*\('zarr-python\+obstore', 'small', 0\)",
    r"\.ChunksOfOneShard\.track_(requests|fetched_per_array_byte)\('zarr-python\+(fsspec|obstore)', 'small', 3\)",
    r"\.PlainChunksOfOneShard\..*\('zarr-python\+(fsspec|obstore)', 'small', 0\)",
    r"\.PlainWholeArray\.",
]
"""What asv asks for: a process each, so a part of what the passes hold, which are whole."""
BUILD_TOOLS = {"build", "importlib_metadata", "pip", "Pympler", "pyproject_hooks", "setuptools", "wheel", "zipp"}
"""What asv puts into its environments; no reader imports them."""


def load(name):
    return json.loads((ROOT / name).read_text())


def test_the_configurations_pin_the_same_versions_and_those_of_the_lock():
    locked = {
        line.split("==")[0].replace("_", "-"): line.split("==")[1].split(" ")[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    locked = {package: re.sub(r"\.post\d+$", "", version) for package, version in locked.items()}  # asv drops .postN
    pins = [{k: v for k, v in load(name)["matrix"]["req"].items() if k != "zarr"} for name in CONFIGS]
    assert all(other == pins[0] for other in pins)
    for package, versions in pins[0].items():
        assert versions == [locked[package.removeprefix("pip+").replace("_", "-")]], package


def test_a_result_belongs_to_one_target_and_one_preset():
    for name in CONFIGS:
        place = {"veth": "embedded:s3+veth", "tail": "embedded:s3-tail"}.get(name.split(".")[-3], "embedded:s3")
        assert load(name)["matrix"]["env_nobuild"] == {"ZCB_TARGET": [place], "ZCB_PRESET": ["demo"]}
    for folder in ("results_dir", "env_dir"):
        assert len({load(other)[folder] for other in CONFIGS}) == 3  # what is measured has one, wherever it reads from


def test_a_tail_differs_by_its_target_only():
    plain, tail = ((ROOT / name).read_text() for name in ("asv.releases.conf.json", "asv.tail.conf.json"))
    assert plain.replace("embedded:s3", "embedded:s3-tail") == tail


def test_the_virtual_network_differs_by_its_target_only():
    for loopback in ("asv.releases.conf.json", "asv.conf.json", "asv.matrix.conf.json"):
        kind, _ = configurations.FILES[loopback]
        virtual = next(name for name, made in configurations.FILES.items() if made == (kind, "embedded:s3+veth"))
        plain, veth = ((ROOT / name).read_text() for name in (loopback, virtual))
        assert plain.replace("embedded:s3", "embedded:s3+veth") == veth


def test_the_matrix_names_the_builds_of_wheels_toml():
    builds = tomllib.loads((ROOT / "wheels.toml").read_text())
    assert load("asv.matrix.conf.json")["matrix"]["req"]["zarr"] == [version.split("+")[0] for version in builds]


@pytest.fixture(scope="module")
def releases(tmp_path_factory):
    path = tmp_path_factory.mktemp("history") / "zarr"
    try:
        history.build(path, RELEASES)
    except StoreError as error:
        pytest.skip(f"no package index: {error}")
    return path


@pytest.fixture(scope="module")
def config(releases, embedded_store, tmp_path_factory):
    """asv.releases.conf.json over the tiny data, with folders of its own."""
    folder = tmp_path_factory.mktemp("asv")
    conf = load("asv.releases.conf.json")
    conf |= {"repo": str(releases), "benchmark_dir": str(ROOT / "benchmarks")}
    conf |= {name: str(folder / conf[name]) for name in ("env_dir", "results_dir", "html_dir")}
    conf["matrix"]["env_nobuild"] = {"ZCB_TARGET": ["embedded:loopback"], "ZCB_PRESET": ["tiny"]}
    path = folder / "asv.conf.json"
    path.write_text(json.dumps(conf))
    create("--preset", "tiny")
    kept = [case for case in cases.load().all if case.pattern != ONE_SHARD or case.parameters.gap in GAPS]
    write_cases(folder / "workloads.toml", *kept)
    return path


def asv(config, *arguments, **given):
    # asv looks for virtualenv and interpreters on the path, as an activated environment has it.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    settings = {"ZCB_SAMPLES": str(SAMPLES), "ZCB_WORKLOADS": str(config.parent / "workloads.toml")}
    environment = {**os.environ, **settings, "HOME": str(config.parent), "PATH": path, **given}
    command = ["asv", arguments[0], "--config", str(config), *arguments[1:]]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=1500)


@pytest.fixture(scope="module")
def records(config):
    assert asv(config, "machine", "--yes").returncode == 0
    looked_up = [word for pattern in LOOKED_UP for word in ("--bench", pattern)]
    for commit, processes in (("v3.2.1^!", "1"), ("v3.3.0^!", str(SAMPLES))):
        measured = ["run", "--record-samples", "--show-stderr", *looked_up, commit]
        run = asv(config, *measured, ZCB_SESSIONS=processes)
        assert run.returncode == 0, run.stdout + run.stderr
    return asv_results.load(config)


def test_a_pass_measures_every_reader_on_every_workload(config, records):
    rows = {kept.commit_name: kept.rows for kept in passes.load(config)}
    assert list(rows) == ["v3.2.1", "v3.3.0"]
    for of_commit in rows.values():
        assert {row.reader for row in of_commit} == {*benchmarked(), *derived(), NETWORK_LIMIT}
        assert len(of_commit) == 2 * len(GAPS) * (len(benchmarked()) + len(derived()) + 1)
        assert [row.error for row in of_commit if row.error] == []
        assert all(len(row.samples) >= SAMPLES for row in of_commit if row.na is None)


def pick(records, metric, commit, reader, dataset, gap):
    return next(
        r
        for r in records
        if (r.metric, r.commit, r.reader, r.parameters) == (metric, commit, reader, {"dataset": dataset, "gap": gap})
    )


@pytest.mark.timeout(1800)
def test_requests_of_one_shard_fall_with_3004(records):
    for reader in ("zarr-python+fsspec", "zarr-python+obstore"):
        assert pick(records, "requests", "v3.2.1", reader, "small", "3").value == 5
        assert pick(records, "requests", "v3.3.0", reader, "small", "3").value == 2
        assert (
            pick(records, "fetched_per_array_byte", "v3.2.1", reader, "small", "3").value
            < pick(records, "fetched_per_array_byte", "v3.3.0", reader, "small", "3").value
        )


def test_every_metric_of_a_row_has_the_samples_of_the_pass(records):
    row = {m: pick(records, m, "v3.3.0", "zarr-python+obstore", "small", "0") for m in ("seconds", "times_slower")}
    assert {len(record.samples) for record in row.values()} == {SAMPLES}
    assert math.isclose(row["seconds"].value, statistics.median(row["seconds"].samples), rel_tol=1e-6)


def test_what_cannot_be_known_is_na(records):
    assert math.isnan(pick(records, "nic_per_array_byte", "v3.3.0", "zarr-python+obstore", "small", "0").value)


def test_the_environment_holds_nothing_but_pins(config, records):
    pins = load("asv.releases.conf.json")["matrix"]["req"]
    (python,) = Path(load_path(config, "env_dir")).glob("*/bin/python")
    done = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        name, _, version = line.partition("==")
        if version and name not in BUILD_TOOLS:
            key = name.lower().replace("_", "-")
            assert pins.get(key, pins.get(f"pip+{name}")) == [version], line


def test_an_environment_that_somebody_changed_is_not_measured(config, records):
    """asv's own note still says that the commit is installed."""
    (note,) = Path(load_path(config, "env_dir")).glob("*/asv-install-status.json")
    (metadata,) = note.parent.glob("lib/python*/site-packages/zarr-*.dist-info/METADATA")
    before = metadata.read_text()
    metadata.write_text(re.sub(r"(?m)^Version: .*$", "Version: 9.9.9", before, count=1))
    folder = Path(load_path(config, "results_dir"))
    kept = {path: path.read_bytes() for path in folder.glob("*/passes/*")}
    try:
        commit = json.loads(note.read_text())["commit_hash"]
        run = asv(config, "run", "--bench", LOOKED_UP[0], f"{commit}^!")
    finally:
        metadata.write_text(before)
    assert run.returncode != 0
    assert "it holds zarr 9.9.9, and zarr-3." in run.stdout + run.stderr
    assert {path: path.read_bytes() for path in folder.glob("*/passes/*")} == kept


def load_path(config, name):
    return json.loads(config.read_text())[name]


def test_publish_draws_every_benchmark_and_the_table_shows_both_releases(config, records):
    assert asv(config, "publish").returncode == 0
    html = Path(load_path(config, "html_dir"))
    index = json.loads((html / "index.json").read_text())
    assert set(index["tags"]) == {"v3.2.1", "v3.3.0"}
    graphs = {path.name for path in html.glob("graphs/**/*.json")}
    measured = {name for name in index["benchmarks"] if re.search(MEASURED, name) and "nic" not in name}
    assert len(measured) == 8  # six metrics without the interface's, which loopback cannot tell, and two plain ones
    assert {f"{name}.json" for name in measured} <= graphs
    assert (html / "readers.html").stat().st_size > 10_000
    said = CliRunner().invoke(zcb, ["answer", "--config", str(config)], env={"COLUMNS": "80"})
    assert said.exit_code == 0, said.output
    assert "Undecided from v3.2.1 to v3.3.0" in said.output  # two samples decide nothing
    assert str(html / "index.html") in said.output
    chosen = ["--metric", "requests", "--by", "commit"]
    done = CliRunner().invoke(zcb, ["table", "--config", str(config), *chosen], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    assert "v3.2.1" in done.output
    assert "v3.3.0" in done.output


def test_a_pass_without_its_store_fails_in_a_line_and_records_nothing(config, monkeypatch, tmp_path):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    run = asv(config, "run", "--dry-run", "--bench", "ChunksOfManyShards.track_requests", "v3.3.0^!")
    assert run.returncode != 0
    assert "the embedded store is not running" in run.stdout + run.stderr


def test_a_variable_stands_for_the_url_of_zarr_pythons_repository(tmp_path, monkeypatch):
    """Asked of asv itself, in a process of its own: the plugin changes asv for as long as it lives."""
    subprocess.run(["git", "init", "-q", str(tmp_path / "named")], check=True)
    ask = (
        "import sys; from asv import config, repo; import harness.asv.plugin as plugin; plugin.setup();"
        "conf = config.Config.load(sys.argv[1]); print(repo.get_repo(conf)._path)"
    )
    named = {**os.environ, "ZCB_ZARR_REPO": str(tmp_path / "named")}
    done = subprocess.run(
        [sys.executable, "-c", ask, "asv.conf.json"], cwd=ROOT, env=named, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "named")

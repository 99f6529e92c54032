"""What asv's own commands say of our benchmarks: of readers that no commit changes, and of a single sample."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from asv.commands import run as asv_run
from asv.environment import get_env_name
from asv.plugins.git import Git
from asv.plugins.regressions import Regressions, _GraphDataFilter
from asv.results import Results, get_filename
from asv.util import UserError
from asv_runner import console

from harness.asv import plugin
from harness.errors import MeasurementError
from harness.machine import environment
from harness.paths import ROOT
from harness.readers import all_readers
from harness.results.records import APPEND_VARIABLE
from tests.support import passes
from tests.support.git_history import commit, repository

BENCHMARKS = """
from pathlib import Path
from harness.asv.tracked import LookedUp, tracked

FACTOR = float(Path({folder!r}, "factor").read_text())
READERS = ["zarr-python+obstore", "tensorstore", "zarrs"]


class Few(LookedUp):
    params = [READERS, [0, 1]]
    param_names = ["reader", "gap"]
    track_seconds = tracked("seconds", "seconds", "One sample.")

    def setup_cache(self):
        return {{(reader, gap): {{"seconds": [0.0123 * FACTOR]}} for reader in READERS for gap in (0, 1)}}


class Several(Few):
    params = [READERS[:2], [0]]

    def setup_cache(self):
        return {{(reader, 0): {{"seconds": [FACTOR, 1.1 * FACTOR] * 5}} for reader in READERS}}
"""


def run(folder, *command, code=0):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(folder), "PATH": path}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """asv's results of two commits, the second of which is twice as slow whatever the reader."""
    folder = tmp_path_factory.mktemp("asv")
    (folder / "project").mkdir()
    run(folder, "git", "init", "-q", "-b", "main", "project")
    (folder / "benchmarks").mkdir()
    (folder / "benchmarks" / "__init__.py").write_text(BENCHMARKS.format(folder=str(folder)))
    config = json.loads((ROOT / "asv.releases.conf.json").read_text())
    kept = {key: config[key] for key in ("version", "project", "dvcs", "branches", "plugins", "launch_method")}
    places = {"repo": "project", "environment_type": "existing", "results_dir": "results"}
    (folder / "asv.conf.json").write_text(json.dumps(kept | places))
    run(folder, "asv", "machine", "--yes", "--machine", "box")
    git = ["git", "-C", "project", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for tag, factor in (("v1", 1), ("v2", 2)):
        run(folder, *git, "commit", "-q", "--allow-empty", "-m", tag)
        run(folder, *git, "tag", tag)
        (folder / "factor").write_text(str(factor))
        commit = run(folder, *git, "rev-parse", tag).strip()
        run(folder, "asv", "run", "--machine", "box", "--set-commit-hash", commit, "-E", "existing:same")
    return folder


def rows(text):
    """Return asv's table: benchmark -> (change, before, after, ratio)."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "track_" in line]
    return {line[-1]: tuple(line[:-1]) for line in lines}


@pytest.mark.slow
def test_readers_that_no_commit_changes_are_left_out_of_comparisons_and_counted_below(measured):
    text = run(measured, "asv", "compare", "v1", "v2")
    found = rows(text)
    assert sorted(found) == [
        "Few.track_seconds('zarr-python+obstore', 0)",
        "Few.track_seconds('zarr-python+obstore', 1)",
        "Several.track_seconds('zarr-python+obstore', 0)",
    ]
    assert {change for change, *_ in found.values()} == {"+"}
    last = text.strip().splitlines()[-1]
    assert last.startswith("Left out: 5 rows of tensorstore, zarrs, which do not use zarr-python: ")


@pytest.mark.slow
def test_a_single_sample_has_no_error_and_several_have(measured):
    found = rows(run(measured, "asv", "compare", "v1", "v2"))
    assert found["Few.track_seconds('zarr-python+obstore', 0)"][1:] == ("12.3ms", "24.6ms", "2")
    assert re.match(r"1\.05±0\.\d*s", found["Several.track_seconds('zarr-python+obstore', 0)"][1])
    assert "±0ms" not in run(measured, "asv", "show", "v1")


def test_asv_and_all_that_it_starts_see_no_settings_of_libraries(monkeypatch, capsys):
    monkeypatch.setattr(environment, "_set_aside", {})
    monkeypatch.setenv("ZARR_ASYNC__CONCURRENCY", "17")
    monkeypatch.setenv("https_proxy", "http://proxy")
    plugin._leave_out_settings()
    assert "ZARR_ASYNC__CONCURRENCY" not in os.environ
    assert "https_proxy" in os.environ  # builds need the package index
    left_out = "ZARR_ASYNC__CONCURRENCY, https_proxy"
    assert capsys.readouterr().err == f"zcb: left out of what asv measures: {left_out} (docs/reliability.md)\n"


@pytest.mark.parametrize("measures", [True, False])
def test_processes_of_asv_that_measure_are_sealed(tmp_path, measures):
    modules = "asv_runner.run, benchmarks" if measures else "benchmarks"
    command = [sys.executable, "-c", f"import json, os, {modules}; print(json.dumps(dict(os.environ)))"]
    given = {"HOME": str(tmp_path), "https_proxy": "http://proxy", "ASV_COMMIT": "abc", "ZCB_TARGET": "embedded"}
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    kept = {"ASV_COMMIT", "ZCB_TARGET"} if measures else set(given)
    assert {name for name in given if seen.get(name) == given[name]} == kept


@pytest.fixture
def asked(monkeypatch):
    """What asv's page of regressions is asked for: its configuration."""
    seen = []
    monkeypatch.setattr(Regressions, "publish", lambda conf, *_: seen.append(conf))
    plugin._look_for_regressions_of_zarr_python_only()
    Regressions.publish(SimpleNamespace(regressions_first_commits={"old.*": None}, branches=["main"]), None)
    return seen[0]


def test_regressions_are_looked_for_in_readers_of_zarr_python_only(asked):
    graphs = _GraphDataFilter(asked, None, {"a": 7})
    graph = SimpleNamespace(params={"branch": "main"})
    for name, reader in all_readers().items():
        for entry in (f"whole_array.WholeArray.track_seconds({name!r}, 'small')", f"timelines.T.track_x({name!r})"):
            start = graphs._get_start_revision(graph, {}, entry)
            assert start == (7 if reader.uses_zarr_python() else None), entry
    assert graphs._get_start_revision(graph, {}, "b.C.track_seconds") == 7
    assert graphs._get_start_revision(graph, {}, "old.track_seconds") is None  # what the configuration leaves out


def test_names_of_environments_are_printed_as_their_result_files_have_them(monkeypatch, capsys):
    monkeypatch.setattr(console, "_write_with_fallback", console._write_with_fallback)
    plugin._print_short_names()
    config = json.loads((ROOT / "asv.conf.json").read_text())
    pins = {name: versions[0] for name, versions in config["matrix"]["req"].items()}
    settings = {("build", "A"): "b", ("nobuild", "ZCB_TARGET"): "embedded:s3"}
    name = get_env_name("virtualenv", "3.13", pins, settings)
    assert len(name) > 400
    console.color_print(f"Benchmarking {name}, {name}")
    console.color_print(f"a.B.track_c [box/{name}]")
    file = Path(get_filename("box", "0123456789", name)).name
    short = file.removeprefix("01234567-")[:12]
    assert short.startswith("env-")
    assert capsys.readouterr().out == (
        f"Benchmarking py3.13 {short}, py3.13 {short}\na.B.track_c [box/py3.13 {short}]\n"
    )


@pytest.mark.parametrize("text", ["virtualenv-py3.13-numpy", f"see {'x' * 200}", f"virtualenv-py3.13-{'a ' * 100}"])
def test_what_is_no_name_of_an_environment_is_printed_as_it_is(monkeypatch, capsys, text):
    monkeypatch.setattr(console, "_write_with_fallback", console._write_with_fallback)
    plugin._print_short_names()
    console.color_print(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_passes_are_told_whether_asv_appends_samples(monkeypatch):
    told = []
    monkeypatch.setenv(APPEND_VARIABLE, "")
    monkeypatch.setattr(asv_run, "run_benchmarks", lambda *_, **__: told.append(os.environ[APPEND_VARIABLE]))
    plugin._tell_whether_samples_are_appended()
    asv_run.run_benchmarks("benchmarks", append_samples=True)
    asv_run.run_benchmarks("benchmarks")
    assert told == ["1", "0"]


def test_a_branch_that_the_repository_lacks_has_no_commits_and_that_is_said(monkeypatch, tmp_path):
    only = commit(repository(tmp_path), "first", file="1")
    monkeypatch.setattr(Git, "get_branch_commits", Git.get_branch_commits)
    plugin._do_without_branches_that_are_not_there()
    repo = Git(str(tmp_path), str(tmp_path / "mirror"))
    said = []
    monkeypatch.setattr(plugin.log, "warning", said.append)
    assert repo.get_branch_commits("main") == [only]
    assert repo.get_branch_commits("pull/3004/head") == []
    assert [line.partition(":")[0] for line in said] == ["the repository has no branch pull/3004/head"]


def test_what_stands_against_the_pages_is_one_line_of_asv(monkeypatch):
    def refuse(conf):
        raise MeasurementError("the record x.pass has schema 0")

    monkeypatch.setattr("harness.site.complete", refuse)
    with pytest.raises(UserError, match=r"^zcb: the record x\.pass has schema 0$"):
        plugin.Site.publish(None, None, None, None, None)


def test_removing_a_result_removes_what_lies_beside_it(monkeypatch, tmp_path):
    result = Results({"machine": "box"}, {}, "a" * 40, 0, "3.13", "env", {})
    result.save(str(tmp_path))
    folder = tmp_path / "box" / "passes"
    folder.mkdir()
    for commit_hash in ("a" * 40, "b" * 40):
        record = msgspec.structs.replace(passes.record("v1", [], env_name="env"), commit=commit_hash)
        (folder / f"{commit_hash[:12]}-env-Any.pass").write_bytes(msgspec.json.encode(record))
    monkeypatch.setattr(Results, "rm", Results.rm)
    plugin._remove_records_with_results()
    result.rm(str(tmp_path))
    assert [path.name for path in folder.iterdir()] == [f"{'b' * 12}-env-Any.pass"]
    assert not list(tmp_path.glob("box/*.json"))

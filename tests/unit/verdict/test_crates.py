"""Sides that differ in the zarrs crate: what is built, with what, once; and what is refused in one line."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from harness.errors import BadUseError, MeasurementError, UnsupportedError
from harness.machine import rust
from harness.measure.process import WorkerProcess
from harness.readers import reader_class
from harness.readers.zarrs import BINARY_VARIABLE, Zarrs
from harness.targets.target import Target
from harness.verdict import crates
from harness.verdict.run import Request, plan, prepare
from tests.unit.verdict.test_sides import git

# Stands for cargo: keeps what it was asked to build, and makes a program and a lock of it.
CARGO = """#!{python}
import json, os, pathlib, re, sys
options = dict(zip(sys.argv[1:], sys.argv[2:]))
sources = pathlib.Path(options["--manifest-path"]).parent
reader = (sources / "zarrs-reader" / "Cargo.toml").read_text()
tree = re.search('^zarrs = .* path = "([^"]+)"', reader, re.MULTILINE)
if "9.9.9" in reader or (tree and pathlib.Path(tree[1], "broken").exists()):
    sys.exit("   Compiling zarrs\\nerror[E0433]: no such thing\\nerror: could not compile")
with open({log!r}, "a") as log:
    log.write(json.dumps([reader, (sources / "Cargo.toml").read_text()]) + "\\n")
found = re.search('^zarrs = .* version = "=([^"]+)"', reader, re.MULTILINE)
lock = sources / "Cargo.lock"
if found:
    lock.write_text(re.sub('(name = "zarrs"\\nversion = )"[^"]+"', '\\\\1"' + found[1] + '"', lock.read_text()))
made = pathlib.Path(options["--target-dir"], "release")
made.mkdir(parents=True, exist_ok=True)
commit = {{"zarrs_commit": os.environ["ZCB_ZARRS_COMMIT"]}} if "ZCB_ZARRS_COMMIT" in os.environ else {{}}
answer = json.dumps({{"versions": {{"zarrs": "other", **commit}}}})
(made / "zarrs-reader").write_text("#!/bin/sh\\nread line; echo '" + answer + "'\\n")
(made / "zarrs-reader").chmod(0o755)
"""


@pytest.fixture
def built(tmp_path, monkeypatch):
    """What a cargo of ours was asked to build, as the reader's and the workspace's manifests."""
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    log = tmp_path / "log"
    cargo = tmp_path / "cargo"
    cargo.write_text(CARGO.format(python=sys.executable, log=str(log)))
    cargo.chmod(0o755)
    monkeypatch.setattr(crates, "find_cargo", lambda: str(cargo))
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def zarrs(tmp_path):
    """A repository that looks like zarrs'."""
    work = tmp_path / "zarrs-work"
    for name in ("zarrs", "zarrs_codec", "zarrs_extra"):
        (work / name).mkdir(parents=True)
        (work / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "1.0.0"\n')
    (work / "Cargo.toml").write_text('[workspace]\nmembers = ["zarrs", "zarrs_codec", "zarrs_extra"]\n')
    git(work, "init", "-q", "-b", "main")
    git(work, "add", "-A")
    git(work, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "first")
    return work


def crate(folder, name):
    """Return a repository of one crate."""
    folder.mkdir()
    (folder / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nversion = "0.7.0"\n')
    git(folder, "init", "-q")
    return folder


def locked():
    text = (rust.WORKSPACE / "Cargo.lock").read_text()
    return text.partition('name = "zarrs"\nversion = "')[2].partition('"')[0]


def test_a_release_is_built_once_and_read_with(built, logged):
    sides = [crates.make("crate:0.1.2", {}) for _ in range(2)]
    assert len(built()) == len(logged) == 1
    reader, workspace = built()[0]
    assert 'zarrs = { version = "=0.1.2", default-features = false, features' in reader
    assert workspace == (rust.WORKSPACE / "Cargo.toml").read_text()
    assert sides[0].detail == "crate zarrs 0.1.2"
    process = WorkerProcess(Zarrs, sides[1].environment)
    assert process.ask({"op": "open"}, timeout=20)["versions"] == {"zarrs": "other"}
    process.stop()


def test_a_working_tree_is_what_is_built_and_its_changes_are_another(built, zarrs):
    side = crates.make(f"crate:{zarrs}", {})
    reader, workspace = built()[0]
    assert f'zarrs = {{ path = "{zarrs}/zarrs", default-features = false, features' in reader
    assert f'zarrs_codec = {{ path = "{zarrs}/zarrs_codec" }}' in reader
    assert f'[patch.crates-io]\nzarrs = {{ path = "{zarrs}/zarrs" }}' in workspace
    assert f'zarrs_extra = {{ path = "{zarrs}/zarrs_extra" }}' in workspace
    assert str(zarrs) in side.detail
    (zarrs / "zarrs" / "lib.rs").write_text("// changed")
    assert crates.make(f"crate:{zarrs}", {}).environment != side.environment


def test_another_crate_of_the_reader_takes_the_place_of_the_registrys(built, tmp_path):
    tree = crate(tmp_path / "store-work", "zarrs_object_store")
    side = crates.make(f"crate:{tree}", {})
    reader, workspace = built()[0]
    assert f'zarrs_object_store = {{ path = "{tree}", default-features' in reader
    assert 'zarrs = { version = "=' in reader
    assert workspace.endswith(f'[patch.crates-io]\nzarrs_object_store = {{ path = "{tree}" }}\n')
    assert side.detail == f"crate zarrs {locked()} ({tree})"


def test_a_crate_that_the_reader_does_not_need_is_refused(built, tmp_path):
    tree = crate(tmp_path / "work", "another")
    with pytest.raises(BadUseError, match="holds no crate that the Rust reader is built with"):
        crates.make(f"crate:{tree}", {})


def test_a_crate_that_cargo_passes_over_is_no_comparison(tmp_path):
    lock = tmp_path / "Cargo.lock"
    lock.write_text(
        '[[package]]\nname = "zarrs_storage"\nversion = "0.4.5"\n'
        '[[patch.unused]]\nname = "zarrs_filesystem"\nversion = "0.3.0"\n'
    )
    crates._demand_used(lock)
    lock.write_text(lock.read_text() + '[[patch.unused]]\nname = "zarrs_storage"\nversion = "0.5.0"\n')
    with pytest.raises(MeasurementError, match=r"zarrs_storage 0\.5\.0 was not used: the reader needs 0\.4\.5"):
        crates._demand_used(lock)


def test_a_revision_is_built_from_its_own_files(built, zarrs, monkeypatch):
    monkeypatch.setenv(crates.REPOSITORY_VARIABLE, str(zarrs))
    commit = git(zarrs, "rev-parse", "HEAD")
    (zarrs / "Cargo.toml").write_text("not what was committed")
    side = crates.make("crate:main", {})
    assert side.detail == f"crate zarrs {locked()} (main)"
    source = Path(built()[0][0].partition('zarrs = { path = "')[2].partition('/zarrs"')[0])
    assert commit[:12] in source.name
    assert "workspace" in (source / "Cargo.toml").read_text()


def test_the_main_branch_is_kept_for_rows_beside_the_release(built, zarrs, monkeypatch):
    main = reader_class("zarrs+main")
    with pytest.raises(UnsupportedError, match="not built with zarrs' main branch: `zcb crates` does that"):
        main.command({})
    monkeypatch.setenv(crates.REPOSITORY_VARIABLE, str(zarrs))
    first = crates.keep_main()
    assert main.command({BINARY_VARIABLE: "another"}) == [str(first), "worker", "--engine", "stock"]
    assert reader_class("zarrs-planned+main").command({})[-1] == "planned"
    process = WorkerProcess(main, {})
    assert process.ask({"op": "open"}, timeout=20)["versions"]["zarrs_commit"] == git(zarrs, "rev-parse", "HEAD")[:12]
    process.stop()
    assert crates.keep_main() == first
    assert len(built()) == 1
    git(zarrs, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "next", "--allow-empty")
    kept = first.resolve()
    assert crates.keep_main() == first
    assert first.resolve() != kept
    assert len(built()) == 2


def test_a_main_branch_that_does_not_compile_is_said_and_leaves_the_program_of_before(built, zarrs, monkeypatch):
    monkeypatch.setenv(crates.REPOSITORY_VARIABLE, str(zarrs))
    before = crates.keep_main().resolve()
    (zarrs / "zarrs" / "broken").touch()
    git(zarrs, "add", "-A")
    git(zarrs, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "breaks")
    with pytest.raises(MeasurementError, match=r"^the build failed: error\[E0433\]: no such thing$"):
        crates.keep_main()
    program = Path(reader_class("zarrs+main").command({})[0])
    assert program.resolve() == before
    assert program.is_file()


def test_a_build_is_of_the_sources_as_they_are(built, zarrs, monkeypatch):
    monkeypatch.setenv(crates.REPOSITORY_VARIABLE, str(zarrs))
    crates.keep_main()
    monkeypatch.setattr(type(rust.ZARRS_READER), "digest", lambda _: "other")
    with pytest.raises(UnsupportedError, match="zcb crates"):
        reader_class("zarrs+main").command({})


def test_what_the_reader_is_built_with_anyway_is_a_side_too(built):
    side = crates.make("=", {})
    assert (side.detail, dict(side.environment)) == (f"crate zarrs {locked()}", {})
    assert BINARY_VARIABLE not in os.environ
    assert built() == []


def test_a_build_that_fails_names_the_first_error_and_leaves_nothing(built):
    with pytest.raises(MeasurementError, match=r"the build failed: error\[E0433\]: no such thing$"):
        crates.make("crate:9.9.9", {})
    assert [path.name for path in Path(os.environ["ZCB_STATE_DIR"], "sides").iterdir()] == []


@pytest.mark.parametrize(
    ("spec", "configured", "reason"),
    [
        ("3.2.1", {}, "3.2.1 is no crate"),
        ("crate:0.1.2", {"async.concurrency": "1"}, "has no setting 'async.concurrency'"),
        ("crate:nonsense", {}, "no revision 'nonsense'"),
        ("crate:.", {}, "is neither a crate nor a workspace of crates"),
    ],
)
def test_what_is_refused(built, zarrs, monkeypatch, spec, configured, reason):
    monkeypatch.setenv(crates.REPOSITORY_VARIABLE, str(zarrs))
    with pytest.raises(BadUseError, match=reason):
        crates.make(spec, configured)


def test_crates_are_compared_by_the_readers_that_use_them(built):
    target = Target(name="t", url="s3://nowhere", endpoint="http://127.0.0.1:9", anonymous=True)
    with pytest.raises(BadUseError, match="tensorstore does not read with the zarrs crate"):
        plan(Request(base="=", head="crate:0.1.2", target=target, readers=["tensorstore"]))
    made = prepare(Request(base="=", head="crate:0.1.2", target=target))
    assert [side.detail for side in made.values()] == [f"crate zarrs {locked()}", "crate zarrs 0.1.2"]


def test_without_cargo_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(crates, "find_cargo", lambda: None)
    with pytest.raises(BadUseError, match="cargo is missing"):
        crates.make("crate:0.1.2", {})


def test_both_interfaces_of_zarrs_are_given_the_same_names():
    """Only one of the two modules is compiled, so nothing else sees what was added to the other alone."""
    folder = rust.WORKSPACE / "zarrs-reader" / "src" / "zarrs_api"
    public = re.compile(r"^ *pub (?:async )?(fn|struct|type) (\w+)", re.MULTILINE)
    release, main_branch = (sorted(public.findall((folder / f"v0_{n}.rs").read_text())) for n in (23, 24))
    assert ("struct", "Calls") in release
    assert release == main_branch


def test_the_requirement_of_zarrs_is_found_in_our_manifest():
    """The text that is replaced stands there once, for each crate that may be replaced."""
    lines = (rust.WORKSPACE / "zarrs-reader" / "Cargo.toml").read_text().splitlines()
    for name in ("zarrs", "zarrs_codec", "zarrs_storage"):
        assert sum(line.startswith(f"{name} = ") for line in lines) == 1

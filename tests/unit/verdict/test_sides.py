"""What a person may compare: how it is read, built, kept, and refused in one line."""

import importlib.metadata
import os
import subprocess
import sys
import textwrap
import zipfile

import pytest

from harness.errors import BadUseError, MeasurementError
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.verdict import builds, sides
from harness.verdict.run import Request, prepare, usual_readers

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "zarr"
version = "{version}"
"""
BACKEND = """
import tomllib, zipfile
from pathlib import Path

def build_wheel(folder, settings=None, metadata=None):
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    needs = "".join(f"Requires-Dist: {one}\\n" for one in project.get("dependencies", ()))
    stem = f"zarr-{project['version']}"
    with zipfile.ZipFile(Path(folder, f"{stem}-py3-none-any.whl"), "w") as wheel:
        wheel.write("zarr.py")
        about = f"Metadata-Version: 2.1\\nName: zarr\\nVersion: {project['version']}\\n{needs}"
        wheel.writestr(f"{stem}.dist-info/METADATA", about)
        wheel.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return f"{stem}-py3-none-any.whl"
"""
"""A build that needs nothing of an index."""
MODULE = """
from importlib.metadata import version
__version__ = version("zarr")
class config:
    get = staticmethod({{"async.concurrency": 10}}.__getitem__)
{extra}
"""


def git(repository, *arguments):
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def commit(repository, version, message, extra="", pyproject=PYPROJECT):
    (repository / "pyproject.toml").write_text(pyproject.format(version=version))
    (repository / "backend.py").write_text(BACKEND)
    (repository / "zarr.py").write_text(MODULE.format(extra=textwrap.dedent(extra)))
    git(repository, "add", "-A")
    git(repository, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", message)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def history(tmp_path):
    """A repository with an open and a squashed pull request, in zarr-python's manner."""
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q", "-b", "main")
    first = commit(work, "9.0", "first")
    git(work, "checkout", "-qb", "feature")
    head = commit(work, "9.1", "feature")
    git(work, "update-ref", "refs/pull/7/head", head)
    git(work, "checkout", "-q", "main")
    second = commit(work, "9.2", "second")
    squashed = commit(work, "9.3", "Read faster (#6)")
    commit(work, "9.4", "mention (#6) in passing")
    return work, {"first": first, "head": head, "second": second, "squashed": squashed}


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("ZCB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("spec", "exact"),
    [
        ("3.2.1", "zarr==3.2.1"),
        ("3.2.0rc1", "zarr==3.2.0rc1"),
        ("obstore==0.11.0", "obstore==0.11.0"),
        ("dist/zarrs-0.2.3-cp311-abi3-manylinux_2_34_x86_64.whl", "zarrs==0.2.3"),
        ("main", None),
        ("79d5b8fde^", None),
        ("v3.2.1", None),
        (".", None),
    ],
)
def test_releases_and_versions_are_told_from_source_code(spec, exact):
    assert sides.requirement(spec) == exact


@pytest.mark.parametrize("spec", ["obstore>=0.11", "obstore==0.11.*", "zarr[remote]==3.2.1", "=3", "a==1,!=2", "a.whl"])
def test_a_requirement_names_one_version(spec):
    with pytest.raises(BadUseError):
        sides.requirement(spec)


def written(folder, name, version, module, tag="py3-none-any"):
    """Write a wheel of one module, and return it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", module)
        about = f"{name}-{version}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        wheel.writestr(f"{about}/RECORD", "")
    return path


@pytest.mark.slow
def test_two_builds_of_one_version_are_two_sides(tmp_path, own):
    wheels = [written(tmp_path / build, "tensorstore", "9.9", f"BUILD = {build!r}") for build in ("before", "after")]
    target = Target(name="t", url="s3://nowhere", endpoint="http://127.0.0.1:9", anonymous=True)
    request = Request(base=str(wheels[0]), head=str(wheels[1]), target=target)
    made = prepare(request)
    assert usual_readers(request) == ["tensorstore"]
    for side, wheel in zip(made.values(), wheels, strict=True):
        assert side.label == str(wheel)
        assert "tensorstore 9.9" in side.detail
        assert wheel.parent.name in (side.overlay / "tensorstore.py").read_text()
    assert builds.overlay(str(wheels[0]), None) == made["base"].overlay


@pytest.mark.slow
def test_a_wheel_that_is_not_there_or_of_another_machine_is_said_and_leaves_nothing(tmp_path, own):
    with pytest.raises(BadUseError, match=r"^there is no wheel dist/obstore-1\.0-py3-none-any\.whl$"):
        builds.demand("dist/obstore-1.0-py3-none-any.whl")
    other = written(tmp_path / "dist", "obstore", "1.0", "", tag="cp311-cp311-win_amd64")
    with pytest.raises(BadUseError, match=r"obstore-1\.0-cp311-cp311-win_amd64\.whl .* is not a supported wheel"):
        builds.overlay(str(other), None)
    assert list((own / "sides").iterdir()) == []


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index of pip's with three releases, one of them yanked."""
    folder = tmp_path / "simple" / "zarr"
    folder.mkdir(parents=True)
    links = ""
    for version, yanked in {"9.0": "", "9.1": 'data-yanked="it deletes data"', "9.9rc1": ""}.items():
        name = written(folder, "zarr", version, MODULE.format(extra="")).name
        links += f'<a href="{name}" {yanked}>{name}</a>'
    (folder / "index.html").write_text(f"<!doctype html><html><body>{links}</body></html>")
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{tmp_path}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.slow
def test_a_release_that_does_not_exist_is_said_in_words(index, own):
    with pytest.raises(BadUseError, match=r"^zarr 9\.8 does not exist: the newest is 9\.0$"):
        builds.overlay("9.8", None)
    with pytest.raises(BadUseError, match=r"^pip's package index knows no nobody, or cannot be reached$"):
        builds.overlay("nobody==1.0", None)
    assert list((own / "sides").iterdir()) == []


@pytest.mark.slow
def test_a_release_that_was_yanked_is_used_with_a_warning_each_time(index, own, logged):
    for _ in range(2):
        logged.clear()
        folder = builds.overlay("9.1", None)
        assert "zarr 9.1 was yanked: it deletes data" in logged
    assert sides.make("9.1", folder, {}).detail == "zarr 9.1 (yanked)"
    logged.clear()
    assert sides.make("9.0", builds.overlay("9.0", None), {}).detail == "zarr 9.0"
    assert not any("yanked" in line for line in logged)


@pytest.mark.slow
def test_a_dependency_that_is_not_pinned_is_said_in_words(history, own):
    work, _ = history
    asked = PYPROJECT.replace('version = "{version}"', 'version = "{version}"\ndependencies = ["nobody-has-this>=2"]')
    commit(work, "9.8", "needs more", extra="import nobody_has_this", pyproject=asked)
    with pytest.raises(BadUseError, match=r"^main does not fit .*: zarr 9\.8 requires nobody-has-this, which is not"):
        sides.make("main", builds.overlay("main", str(work)), {})


@pytest.mark.slow
def test_a_commit_is_built_once_and_imported_from_its_own_folder(history, own, logged):
    work, commits = history
    folder = builds.overlay(commits["head"][:10], str(work))
    side = sides.make("head", folder, {"async.concurrency": "50"})
    assert side.detail == "zarr 9.1, async.concurrency=50"
    assert side.environment["ZARR_ASYNC__CONCURRENCY"] == "50"
    assert side.versions["numpy"]  # all else is this environment's
    assert any("building" in line for line in logged)
    logged.clear()
    assert builds.overlay(commits["head"], str(work)) == folder
    assert logged == []


@pytest.mark.slow
def test_a_working_tree_with_uncommitted_changes_is_what_is_compared(history, own):
    work, _ = history
    before = builds.overlay(str(work), None)
    (work / "pyproject.toml").write_text(PYPROJECT.format(version="9.9"))
    after = builds.overlay(str(work), None)
    assert sides.make("before", before, {}).detail == "zarr 9.4"
    assert sides.make("after", after, {}).detail == "zarr 9.9"


@pytest.mark.slow
def test_a_clone_without_tags_is_told_to_fetch_them_and_built_again_once_it_has(history, own):
    work, _ = history
    first = commit(work, "0.1.dev7+g5c98cef", "as a clone without tags is built")
    for spec in (str(work), first):
        with pytest.raises(
            BadUseError,
            match=rf"^{work} has no v\* tags, so its version is 0\.1\.dev7\+g5c98cef: git fetch --tags there$",
        ):
            builds.overlay(spec, str(work))
    assert list((own / "sides").iterdir()) == []
    commit(work, "9.7", "tagged")
    before = builds.overlay(str(work), None)
    git(work, "tag", "v9.7")
    assert builds.overlay(str(work), None) != before


def test_an_open_pull_request_is_its_merge_base_against_its_head(history):
    work, commits = history
    assert builds.pull_request(work, 7) == (commits["first"], commits["head"], "feature")


def test_a_main_that_was_not_pulled_for_long_charges_no_pull_request_with_the_commits_of_others(history, logged):
    work, commits = history
    newest = git(work, "rev-parse", "main")
    git(work, "checkout", "-q", "feature")
    git(work, "reset", "-q", "--hard", "main")
    git(work, "update-ref", "refs/pull/9/head", commit(work, "9.6", "newer"))
    git(work, "update-ref", "refs/remotes/origin/main", newest)
    git(work, "branch", "-qf", "main", commits["first"])
    assert builds.pull_request(work, 9)[:2] == (newest, git(work, "rev-parse", "feature"))
    assert any(f"{newest[:9]} is the merge base with main of 20" in line for line in logged)
    assert any(line.endswith("commits in the pull request: 1") for line in logged)
    assert builds.commit_of(work, "main") == commits["first"]
    assert any(f"own ({commits['first'][:9]}), 3 commits behind origin/main" in line for line in logged)
    git(work, "branch", "-qf", "main", "feature")
    logged.clear()
    assert builds.commit_of(work, "main") == git(work, "rev-parse", "feature")
    assert logged == []


def test_a_main_that_is_ahead_of_its_origin_is_taken_and_one_that_went_its_own_way_is_not(history):
    work, commits = history
    git(work, "update-ref", "refs/remotes/origin/main", commits["first"])
    assert builds.pull_request(work, 6)[:2] == (commits["second"], commits["squashed"])
    git(work, "update-ref", "refs/remotes/origin/main", commits["head"])
    assert builds.pull_request(work, 7).base == commits["head"]


def test_a_number_that_nobody_gave_is_told_from_a_clone_without_pull_requests(history):
    work, _ = history
    with pytest.raises(BadUseError, match=rf"^{work} has no pull request 99; its newest is 7: fetch, or there is none"):
        builds.pull_request(work, 99)
    git(work, "update-ref", "-d", "refs/pull/7/head")
    with pytest.raises(BadUseError, match="holds no pull request 99: a mirror does"):
        builds.pull_request(work, 99)


def test_a_squashed_pull_request_is_its_commit_against_the_parent(history):
    work, commits = history
    assert builds.pull_request(work, 6) == (commits["second"], commits["squashed"], "Read faster")


def test_a_merged_pull_request_has_the_title_below_its_subject_and_one_of_several_commits_none(history):
    work, _ = history
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    git(work, "checkout", "-q", "feature")
    git(work, "update-ref", "refs/pull/8/head", commit(work, "9.5", "one more"))
    assert builds.pull_request(work, 8).title is None
    git(work, "checkout", "-q", "main")
    message = "Merge pull request #8 from somebody/feature\n\nRead in pieces"
    git(work, *identity, "merge", "-q", "-X", "ours", "--no-ff", "-m", message, "feature")
    assert builds.pull_request(work, 8).title == "Read in pieces"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [("nonsense", "no revision 'nonsense'"), ("--help", "not a revision"), ("0" * 40, "no revision")],
)
def test_what_the_repository_does_not_hold(history, own, spec, reason):
    with pytest.raises(BadUseError, match=reason):
        builds.overlay(spec, str(history[0]))
    with pytest.raises(BadUseError, match="no pull request 99"):
        builds.pull_request(history[0], 99)


def test_no_repository(tmp_path, own):
    with pytest.raises(BadUseError, match="neither a directory nor a URL"):
        builds.overlay("main", "nowhere")
    with pytest.raises(BadUseError, match="is not a git repository"):
        builds.overlay("main", str(tmp_path))


@pytest.mark.slow
def test_a_build_that_fails_leaves_nothing_behind(history, own):
    work, _ = history
    commit(work, "not a version", "broken")
    with pytest.raises(MeasurementError, match="build failed"):
        builds.overlay("main", str(work))
    assert list((own / "sides").iterdir()) == []


@pytest.mark.slow
def test_a_zarr_that_cannot_be_imported(history, own):
    work, _ = history
    commit(work, "9.8", "broken", extra="raise RuntimeError('broken at import')")
    with pytest.raises(MeasurementError, match="cannot be imported: RuntimeError: broken at import"):
        sides.make("main", builds.overlay("main", str(work)), {})


@pytest.mark.slow
def test_a_zarr_that_cannot_bound_its_requests_is_measured_and_says_so(history, own):
    work, _ = history
    assert sides.make("main", builds.overlay("main", str(work)), {}).bounded
    commit(work, "9.8", "Bound requests in stores", extra="config.get = staticmethod({}.__getitem__)")
    folder = builds.overlay("main", str(work))
    assert not sides.make("main", folder, {}).bounded
    with pytest.raises(BadUseError, match=r"zarr 9\.8 has no setting 'async\.concurrency'"):
        sides.make("main", folder, {"async.concurrency": "1"})


def test_a_folder_that_another_run_made_meanwhile_is_used(own):
    def build(folder):
        folder.mkdir()
        (folder / "zarr.py").write_text("mine")
        other = own / "sides" / f"py{sys.version_info.major}{sys.version_info.minor}-both"
        other.mkdir()
        (other / "zarr.py").write_text("theirs")

    assert (builds.cached_folder("both", build) / "zarr.py").read_text() == "theirs"
    assert [path.name[:2] for path in (own / "sides").iterdir()] == ["py"]


@pytest.mark.parametrize("spec", ["python3.14t", "py3.14t", "python==3.14t"])
def test_how_an_interpreter_is_named_is_said(spec):
    with pytest.raises(BadUseError, match=rf"^{spec}: write python:3\.14t$"):
        builds.overlay(spec, None)


REAL = os.environ.get("ZCB_ZARR_REPO", "")


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="ZCB_ZARR_REPO names no clone of zarr-python")
def test_the_pull_request_that_takes_the_bound_away_is_read_all_the_same(own):
    clone = builds.local_clone(REAL)
    base, head, _ = builds.pull_request(clone, 3547)
    made = [sides.make(commit, builds.overlay(commit, str(clone)), {}) for commit in (base, head)]
    assert [side.bounded for side in made] == [True, False]


@pytest.mark.slow
def test_a_setting_that_zarr_does_not_have(history, own):
    folder = builds.overlay("main", str(history[0]))
    with pytest.raises(BadUseError, match=r"zarr 9\.4 has no setting 'no\.such'"):
        sides.make("main", folder, {"no.such": "1"})
    with pytest.raises(BadUseError, match="not the name of a setting"):
        sides.settings({"PATH;rm": "1"})
    with pytest.raises(BadUseError, match="name=value"):
        sides.parse_setting("async.concurrency")


def test_the_version_of_a_compared_package_is_told_on_both_sides():
    plain, told = sides.make("=", None, {}), sides.make("=", None, {}, {"obstore", "unheard-of"})
    assert told.detail == f"{plain.detail}, obstore {importlib.metadata.version('obstore')}"


def test_a_variable_that_is_let_in_reaches_both_sides_and_no_side_s_own_setting(embedded_store):
    asked = {"OMP_NUM_THREADS": "1", "ZARR_ASYNC__CONCURRENCY": "7"}
    request = Request(
        base="=", head="=", target=resolve("embedded"), head_config={"async.concurrency": "50"}, environment=asked
    )
    made = prepare(request)
    assert {side: one.environment["OMP_NUM_THREADS"] for side, one in made.items()} == {"base": "1", "head": "1"}
    found = {side: one.environment["ZARR_ASYNC__CONCURRENCY"] for side, one in made.items()}
    assert found == {"base": "7", "head": "50"}


def test_what_a_side_is_asked_for_its_settings_sees_nothing_of_the_user_s(monkeypatch):
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("ZARR_NO__SUCH", "1")
    with pytest.raises(BadUseError, match=r"has no setting 'no\.such'"):
        sides.make("=", None, {"no.such": "1"})

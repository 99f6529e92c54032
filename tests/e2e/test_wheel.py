"""The package without its repository: a wheel, installed, and used from another folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from harness.paths import ROOT
from harness.results.records import SUFFIX
from harness.timeline.pictures import render
from tests.support import passes

VM = "c6in.32xlarge"
PACKAGES = ("harness", "setup_data")
OWN_SETTINGS = ("ZCB_", "XDG_", "PYTHON")


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """What the repository holds: files that git tracks or would, so that what it ignores is missed here too."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def wheel(tracked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, since a build leaves folders beside the sources."""
    copy, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    pip("wheel", "--no-build-isolation", "--wheel-dir", built, copy)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and this one's other packages; its search path has no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    # A folder named in a .pth file is searched, but .pth files in it, an editable install's among them, are not read.
    here = sysconfig.get_path("purelib")
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "packages.pth").write_text(here + "\n")
    pip("--python", folder / "bin" / "python", "install", "--no-index", wheel)
    return folder


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run([*command, "--no-deps"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@dataclass
class Installed:
    """The installed command, as a stranger runs it: from a folder of theirs, with no settings."""

    environment: Path
    home: Path
    programs: Path
    """Folder of the Rust programs, put on PATH as their message asks."""

    def python(self, code: str) -> str:
        return self._run("python", "-c", code).stdout

    def zcb(self, *arguments: str | Path, code: int = 0, rust: bool = True, **settings: str) -> str:
        """Run it, and return what it says on stdout, or on stderr where it has to fail."""
        path = os.pathsep.join([*([str(self.programs)] if rust else []), os.environ["PATH"]])
        done = self._run("zcb", *arguments, PATH=path, **settings)
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout if code in (0, 1) else one_line(done.stderr)

    def _run(self, program: str, *arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
        own |= {"HOME": str(self.home)}
        command = [str(self.environment / "bin" / program), *map(str, arguments)]
        return subprocess.run(
            command, cwd=self.home, env=own | settings, capture_output=True, text=True, check=False, timeout=300
        )


def one_line(stderr: str) -> str:
    assert len(stderr.splitlines()) == 1, stderr
    assert stderr.startswith("zcb: ")
    return stderr


@pytest.fixture(scope="module")
def installed(
    environment: Path, store_binary: Path, rust_reader: Path, tmp_path_factory: pytest.TempPathFactory
) -> Installed:
    programs = tmp_path_factory.mktemp("programs")
    for binary in (store_binary, rust_reader):
        (programs / binary.name).symlink_to(binary)
    return Installed(environment, tmp_path_factory.mktemp("elsewhere"), programs)


@pytest.fixture(scope="module")
def workload(installed: Installed) -> Iterator[Path]:
    """A workload that the installed command made of data that it wrote into the store that it started."""
    file = installed.home / "w.json"
    try:
        installed.zcb("store", "start", "--profile", "loopback")
        installed.zcb("data", "create", "--target", "embedded", "--preset", "tiny")
        asked = ["--target", "embedded", "--dataset", "tiny/small", "--gap", "1"]
        installed.zcb("workload", "chunks_of_one_shard", *asked, "-o", file)
        yield file
    finally:
        installed.zcb("store", "stop")


@pytest.fixture(scope="module")
def recorded(installed: Installed, workload: Path) -> Path:
    file = installed.home / "t.json"
    installed.zcb("read", "zarr-python+obstore", workload, "--timeline", file, "--pairs", "0", "--no-wire")
    return file


def test_the_wheel_holds_every_file_of_the_packages(wheel, tracked):
    wanted = {str(name) for name in tracked if name.parts[0] in PACKAGES}
    with zipfile.ZipFile(wheel) as held:
        assert wanted == {name for name in held.namelist() if name.split("/")[0] in PACKAGES}
        for name in sorted(wanted):
            assert held.read(name) == (ROOT / name).read_bytes()  # of a link: the file that it leads to


def test_nothing_is_imported_from_the_checkout(installed, environment):
    files = installed.python("import harness.cli, setup_data.cli\nprint(harness.__file__, setup_data.__file__)")
    assert all(Path(file).is_relative_to(environment) for file in files.split())
    assert str(ROOT) not in installed.python("import sys\nprint(*sys.path, sep='\\n')").splitlines()
    assert installed.python("import importlib.util as i\nprint(i.find_spec('benchmarks'))") == "None\n"


def test_the_commands_are_those_of_the_checkout(installed):
    listed = installed.zcb("--help")
    here = subprocess.run([Path(sys.executable).with_name("zcb"), "--help"], capture_output=True, text=True, check=True)
    assert listed == here.stdout
    assert "  timeline " in listed
    assert "  data " in listed  # setup_data's


def test_a_timeline_as_a_page_has_its_script_and_style_inside(installed, recorded):
    page = installed.zcb("timeline", recorded, "--format", "html")
    for asset in ("timeline.js", "timeline.css"):
        assert (render.ASSETS / asset).read_text() in page
    assert '"zarr-python+obstore"' in page
    assert "/*" + "DATA*/" not in page


def test_a_timeline_in_the_other_formats(installed, recorded):
    assert installed.zcb("timeline", recorded, "--format", "svg").startswith("<svg")
    assert json.loads(installed.zcb("timeline", recorded, "--format", "perfetto"))["traceEvents"]
    assert "zarr-python+obstore" in installed.zcb("timeline", recorded)


def test_readers_in_python_and_in_rust(installed, workload):
    reports = json.loads(installed.zcb("read", "tensorstore,zarrs", workload, "--samples", "1", "--json"))
    assert [report["reader"] for report in reports] == ["tensorstore", "zarrs"]
    assert all(sample["verified"] for report in reports for sample in report["samples"])


def test_state_is_kept_in_a_folder_of_the_user(installed, workload):
    root = json.loads(installed.zcb("store", "status", "--json"))["root"]
    assert Path(root).is_relative_to(installed.home / ".local" / "state" / "zarr-cloud-bench")
    moved = {"XDG_STATE_HOME": str(installed.home / "moved")}
    assert '"running":false' in installed._run("zcb", "store", "status", "--json", **moved).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["store", "start"], "the embedded store is a program in Rust, which the Python package does not hold"),
        (["table"], "asv.releases.conf.json is in the repository of zarr-cloud-bench"),
        (["pr", "3004"], "name zarr-python's by --repo or ZCB_ZARR_REPO"),
        (["wheels", "--repo", "nowhere"], "nowhere is no repository"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_needs_more_says_so_in_a_line(installed, arguments, message):
    state = str(installed.home / "nothing")
    assert message in installed.zcb(*arguments, code=2, rust=False, ZCB_STATE_DIR=state)


def test_without_their_programs_readers_in_rust_say_what_they_need(installed, workload):
    refused = installed.zcb("read", "zarrs", workload, code=2, rust=False)
    assert "put rust/target/release/zarrs-reader on PATH" in refused
    compared = installed.zcb("compare", "crate:0.1.0", "=", "--readers", "zarrs", code=2)
    assert "rust is in the repository of zarr-cloud-bench" in compared
    assert "compare crates from a checkout of it" in compared


def test_a_table_of_somebody_elses_results(installed):
    config = installed.home / "asv.conf.json"
    shared = {"version": 1, "project": "zarr-python", "repo": ".", "results_dir": "results", "html_dir": "html"}
    config.write_text(json.dumps(shared))
    folder = installed.home / "results" / "box" / "passes"
    folder.mkdir(parents=True)
    for number, one in enumerate(passes.run(rounds=3)):
        (folder / f"{number}{SUFFIX}").write_bytes(msgspec.json.encode(one))
    report = json.loads(installed.zcb("table", "--config", config, "--json"))
    assert {row["reader"] for row in report["rows"]} >= set(passes.READERS)


def test_what_a_run_costs(installed):
    report = json.loads(installed.zcb("cost", "--vm", VM, "--hours", "1", "--json"))
    assert report["expected"]["vm"] == report["vm"]["dollars_per_hour"] > 0


def test_doctor_says_that_it_is_not_in_the_repository(installed):
    report = json.loads(installed.zcb("doctor", "--json", code=1))
    by_name: dict[str, dict[str, str]] = {check["name"]: check for check in report["checks"]}
    assert by_name["repository"]["verdict"] == "missing"
    assert "make bench" in by_name["repository"]["needed_for"]
    assert by_name["asv"]["verdict"] == "ok"
    assert not [check for check in report["checks"] if "cannot tell" in check["found"]]

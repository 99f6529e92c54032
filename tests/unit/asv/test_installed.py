"""What is measured is what asv installed: the commit's build, the pinned versions, and one asv at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from asv.util import UserError

from harness.asv import installed
from harness.errors import MeasurementError
from harness.measure.conductor import Row
from harness.measure.recording import demand_installed
from harness.paths import ROOT
from harness.results.records import VERSIONS_VARIABLE

COMMIT, OTHER = "a" * 40, "b" * 40
PINS = {"numpy": "2.5.5", "python-dateutil": "2.9.0", "pip+asv_runner": "0.3.2"}


class Site:
    """An environment as asv describes it, with the packages that a test puts into it."""

    def __init__(self, folder):
        self.packages = folder / "lib" / "python3.13" / "site-packages"
        self.cache = folder / "asv-build-cache"
        self.environment = SimpleNamespace(
            tool_name="virtualenv",
            _path=str(folder),
            _requirements=PINS,
            _build_command=["python -m pip wheel"],
            _global_env_vars={"ASV_COMMIT": COMMIT},
        )
        for name, version in (("numpy", "2.5.5"), ("python_dateutil", "2.9.0.post0"), ("asv_runner", "0.3.2")):
            self.hold(name, version)
        self.hold("zarr", "3.3.0", commit=COMMIT)

    def hold(self, name, version, commit=None, wheel=None):
        for old in self.packages.glob(f"{name}-*.dist-info"):
            for file in old.iterdir():
                file.unlink()
            old.rmdir()
        folder = self.packages / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if commit is not None:
            file = self.cache / commit / (wheel or f"{name}-{version}-py3-none-any.whl")
            (folder / "direct_url.json").write_text(json.dumps({"archive_info": {}, "url": file.as_uri()}))


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path / "env")


def test_an_environment_that_holds_the_build_and_the_pins_is_measured(site):
    assert installed.trouble(site.environment) is None
    assert installed.versions(site.environment) == {
        "asv-runner": "0.3.2",
        "numpy": "2.5.5",
        "python-dateutil": "2.9.0.post0",
        "zarr": "3.3.0",
    }


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"name": "zarr", "version": "3.4.2", "commit": OTHER}, "it holds zarr 3.4.2 of "),
        ({"name": "zarr", "version": "3.4.2"}, f"it holds zarr 3.4.2 of elsewhere, not what asv built of {COMMIT[:8]}"),
        (
            {"name": "zarr", "version": "3.4.2", "commit": COMMIT, "wheel": "zarr-3.3.0-py3-none-any.whl"},
            "it holds zarr 3.4.2, and zarr-3.3.0-py3-none-any.whl was built of",
        ),
        ({"name": "numpy", "version": "2.5.4"}, "it holds numpy 2.5.4, where the configuration says 2.5.5"),
    ],
)
def test_an_environment_that_holds_something_else_is_said_in_a_line(site, held, said):
    site.hold(**held)
    trouble = installed.trouble(site.environment)
    assert said in trouble
    assert trouble.endswith("; remove that folder")
    assert "\n" not in trouble


def test_a_pin_that_is_missing_is_said(site):
    site.environment._requirements = PINS | {"obstore": "0.12.1"}
    assert "it holds no obstore, where the configuration says 0.12.1" in installed.trouble(site.environment)


def test_builds_that_are_environments_are_pinned_like_any_package(site):
    site.environment._build_command, site.environment._requirements = [], PINS | {"zarr": "3.2.2a3004"}
    site.hold("zarr", "3.2.2a3004+merged")
    assert installed.trouble(site.environment) is None
    site.hold("zarr", "3.2.2a0+merged")
    assert "it holds zarr 3.2.2a0+merged, where the configuration says 3.2.2a3004" in installed.trouble(
        site.environment
    )


def test_an_environment_that_asv_found_holds_what_it_holds(site):
    site.environment.tool_name = "existing"
    site.hold("zarr", "9.9.9")
    assert (installed.trouble(site.environment), installed.versions(site.environment)) == (None, {})


# --- during a pass


def row(reader, **versions):
    return Row(reader=reader, workload=None, versions=versions)


def test_a_pass_during_which_the_environment_changed_is_not_kept(monkeypatch):
    monkeypatch.setenv(VERSIONS_VARIABLE, json.dumps({"zarr": "3.3.0", "obstore": "0.12.1"}))
    monkeypatch.setattr("harness.measure.recording._packages", lambda: {"zarr": "3.3.0", "numpy": "2.5.5"})
    right = row("zarr-python+obstore", zarr="3.3.0", obstore="0.12.1")
    crate = row("zarrs", zarrs="0.22.0", zarr="9")  # a program in Rust names crates
    demand_installed([right, crate])
    with pytest.raises(MeasurementError, match=r"zarr-python\+fsspec used zarr 3\.4\.2, and asv had installed 3\.3\.0"):
        demand_installed([right, row("zarr-python+fsspec", zarr="3.4.2")])
    monkeypatch.setattr("harness.measure.recording._packages", lambda: {"zarr": "3.4.2"})
    with pytest.raises(MeasurementError, match=r"it holds zarr 3\.4\.2"):
        demand_installed([right])


def test_outside_asv_there_is_nothing_to_compare_with(monkeypatch):
    monkeypatch.delenv(VERSIONS_VARIABLE, raising=False)
    demand_installed([row("zarr-python+obstore", zarr="0")])


# --- two at once


HOLDS = """
import sys
from harness.asv import installed
installed.hold(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def another(tmp_path):
    """Another process that has the environments in a folder, until it is told to end."""
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "env")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_environments_are_one_asvs_at_a_time(tmp_path, another):
    environments = str(tmp_path / "env")
    with pytest.raises(UserError, match=rf"another asv \(process {another.pid}\) uses the environments in .*env"):
        installed.hold(environments)
    another.communicate()
    installed.hold(environments)
    installed.hold(environments)  # what this process has it may ask for again
    installed._held.pop(environments).close()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["setup"], ["run", "HEAD^!"]])
def test_a_second_asv_in_the_same_folder_is_refused_in_a_line(tmp_path, another, command):
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "-q", "-b", "main", "project"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "one"], cwd=tmp_path / "project", check=True)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    configuration = {"version": 1, "project": "p", "repo": "project", "branches": ["main"], "dvcs": "git"}
    configuration |= {"environment_type": "virtualenv", "env_dir": str(tmp_path / "env")}
    configuration |= {"plugins": [".harness.asv.plugin"]}
    (tmp_path / "asv.conf.json").write_bytes(msgspec.json.encode(configuration))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": path, "PYTHONPATH": str(ROOT)}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False, "timeout": 120}
    subprocess.run(["asv", "machine", "--yes", "--machine", "box"], **run)
    done = subprocess.run(["asv", *command, *(["--machine", "box"] if command[0] == "run" else [])], **run)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"another asv (process {another.pid}) uses the environments in" in done.stdout + done.stderr
    assert not (tmp_path / "env").exists()

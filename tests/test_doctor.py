"""``zcb doctor`` says what is missing, for what, and ends accordingly."""

import json
import os
import shutil
import subprocess
import sys

import msgspec
import pytest
from click.testing import CliRunner

from harness import doctor, rust
from harness.cli.doctor import doctor as command


def run(*arguments: str):
    return CliRunner().invoke(command, arguments)


def test_every_check_has_words():
    checks = doctor.examine()
    assert len({check.name for check in checks}) == len(checks) >= 14
    for check in checks:
        assert check.found, check.name
        assert check.needed_for, check.name
        assert (check.cure is None) == (check.verdict == "ok"), check


def test_json_and_exit_code():
    done = run("--json")
    report = json.loads(done.stdout)
    checks = msgspec.convert(report["checks"], list[doctor.Check])
    assert report["schema"] == 1
    assert report["can_bench"] == doctor.can_bench(checks) == (done.exit_code == 0)


@pytest.mark.parametrize("program", ["git", "make"])
def test_a_missing_program(monkeypatch, program):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: None if name == program else real(name, *a, **k))
    done = run()
    assert done.exit_code == 1
    assert f"install the system's package {program}" in " ".join(done.stdout.split())
    assert "cannot run" in done.stdout


def test_an_old_compiler(monkeypatch):
    monkeypatch.setattr(doctor, "_version_of", lambda _: (1, 60, 0))
    (rust,) = [check for check in doctor.examine() if check.name == "Rust"]
    assert (rust.verdict, rust.found) == ("missing", "rustc 1.60.0")


def test_the_compiler_asked_for_is_the_newest_any_crate_demands(monkeypatch, tmp_path):
    for name, version in {"a": "1.92", "b": "1.100", "c": "1.95.1"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "Cargo.toml").write_text(f'[package]\nname = "{name}"\nrust-version = "{version}"\n')
    monkeypatch.setattr(rust, "WORKSPACE", tmp_path)
    assert doctor._oldest_rust() == (1, 100)


def test_a_full_disk(monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    assert run().exit_code == 1


def test_a_busy_machine_is_a_warning_only(monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 0.0, 0.0))
    (load,) = [check for check in doctor.examine() if check.name == "other load"]
    assert load.verdict == "warn"


def test_a_check_that_breaks_leaves_the_others(monkeypatch):
    def broken() -> tuple[float, float, float]:
        raise OSError("no such thing here")

    monkeypatch.setattr(os, "getloadavg", broken)
    checks = {check.name: check for check in doctor.examine()}
    assert checks["other load"].verdict == "warn"
    assert "no such thing here" in checks["other load"].found


def test_the_command_fits_eighty_columns():
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert done.returncode in (0, 1)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_virtual_network_that_is_not_allowed_is_no_obstacle_to_measuring(monkeypatch):
    monkeypatch.setattr(doctor.veth, "obstacle", lambda: "it takes root or `zcb netns`")
    checks = doctor.examine()
    (network,) = [check for check in checks if check.name == "virtual network"]
    assert (network.verdict, network.found) == ("warn", "it takes root or `zcb netns`")
    assert network.cure is not None
    assert "docs/network.md" in network.cure
    assert doctor.can_bench(checks) == all(check.verdict != "missing" for check in checks)

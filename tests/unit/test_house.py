"""The house: no room imports what stands beside or above it."""

import subprocess
import sys
import tomllib
from pathlib import Path

from harness.paths import ROOT


def test_rooms_import_only_what_stands_below_them():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "1 kept, 0 broken" in done.stdout


def test_every_room_has_its_place_in_the_order():
    (contract,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    placed = {name for layer in contract["layers"] for name in layer.split(" | ")}
    rooms = {f"harness.{path.parent.name}" for path in ROOT.glob("harness/*/__init__.py")}
    assert rooms - placed == set()

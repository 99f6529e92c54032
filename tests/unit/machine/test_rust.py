"""Our Rust programs: built when missing or out of date, and what is said where that cannot be."""

import os
from pathlib import Path

import pytest

from harness.errors import BadUseError, UnsupportedError
from harness.machine import rust
from harness.readers import reader_class

PROGRAMS = [rust.STORE, rust.ZARRS_READER]


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch) -> Path:
    """A Rust workspace of which nothing is built yet."""
    for program in PROGRAMS:
        (tmp_path / "rust" / program.crate / "src").mkdir(parents=True)
        (tmp_path / "rust" / program.crate / "Cargo.toml").touch()
        (tmp_path / "rust" / program.crate / "src" / "main.rs").touch()
    for name in ("Cargo.toml", "Cargo.lock"):
        (tmp_path / "rust" / name).touch()
    monkeypatch.setattr(rust, "WORKSPACE", tmp_path / "rust")
    return tmp_path / "rust"


def cargo(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.crate)
def test_build_when_missing_or_older_than_a_source(program, workshop, monkeypatch, tmp_path, logged):
    made = f"mkdir -p {program.path.parent}; touch {program.path}; echo built >> {tmp_path}/log"
    monkeypatch.setattr(rust, "find_cargo", lambda: cargo(tmp_path / "cargo", made))
    for _ in range(2):
        assert program.build() == program.path
    assert (tmp_path / "log").read_text() == "built\n"
    assert len(logged) == 1
    later = program.path.stat().st_mtime + 10
    os.utime(workshop / program.crate / "src" / "main.rs", (later, later))
    assert not program.is_built()
    program.build()
    assert (tmp_path / "log").read_text() == "built\nbuilt\n"


def test_build_without_cargo(workshop, monkeypatch):
    monkeypatch.setattr(rust, "find_cargo", lambda: None)
    with pytest.raises(BadUseError, match="cargo is missing"):
        rust.STORE.build()


def test_a_build_that_fails(workshop, monkeypatch, tmp_path):
    monkeypatch.setattr(rust, "find_cargo", lambda: cargo(tmp_path / "cargo", "exit 101"))
    with pytest.raises(BadUseError, match="could not be built"):
        rust.STORE.build()


@pytest.mark.parametrize(("installed", "cure"), [("/bin/cargo", "run `make rust`"), (None, "install Rust")])
@pytest.mark.parametrize("name", ["zarrs", "zarrs-planned", "network-limit+rust"])
def test_a_rust_reader_that_is_not_built_says_why(name, installed, cure, workshop, monkeypatch):
    monkeypatch.setattr(rust, "find_cargo", lambda: installed)
    with pytest.raises(UnsupportedError, match="the Rust reader is not built") as reason:
        reader_class(name).command({})
    assert cure in str(reason.value)

"""Our programs in Rust: where they are, whether they are up to date, and how they are built."""

import hashlib
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BadUseError
from harness.paths import ROOT

_log = logging.getLogger(__name__)

WORKSPACE = ROOT / "rust"


@dataclass(frozen=True, kw_only=True)
class Program:
    """A binary of the workspace in rust/."""

    crate: str
    """Its crate and its name."""
    called: str
    """What a person knows it as, e.g. ``the embedded store``."""

    @property
    def path(self) -> Path:
        """Where the binary is, or will be; without the sources, where PATH has it."""
        elsewhere = None if _has_sources() else shutil.which(self.crate)
        return Path(elsewhere) if elsewhere else WORKSPACE / "target" / "release" / self.crate

    def absence(self) -> str:
        """Return what is missing, and what to do, in one line."""
        if not _has_sources():
            return (
                f"{self.called} is a program in Rust, which the Python package does not hold: build it by `make rust` "
                f"in the repository of zarr-cloud-bench, and put rust/target/release/{self.crate} on PATH"
            )
        missing = "is older than its sources" if self.path.exists() else "is not built"
        return f"{self.called} {missing}: {'run' if find_cargo() else 'install Rust, then run'} `make rust`"

    def is_built(self) -> bool:
        """Whether the binary exists and is newer than its sources, where these are here."""
        if not _has_sources():
            return self.path.exists()
        try:
            built = self.path.stat().st_mtime
            return all(source.stat().st_mtime <= built for source in self.sources())
        except OSError:
            return False

    def build(self) -> Path:
        """Return the binary, built first when it is missing or older than its sources.

        Raises
        ------
        BadUseError
            There are no sources, there is no cargo, or the build failed (its own messages are on stderr).
        """
        if self.is_built():
            return self.path
        if not _has_sources():
            raise BadUseError(self.absence())
        cargo = find_cargo()
        if cargo is None:
            if self.path.exists():
                _log.warning(f"{self.called} is older than its sources, and cargo to rebuild it is not installed")
                return self.path
            raise BadUseError(
                f"{self.called} has to be built and cargo is missing: install Rust (`zcb doctor` says which)"
            )
        _log.info(f"building {self.called} (some six minutes on two cores the first time) ...")
        stderr = 2  # stdout is for what a command was asked for
        # All programs at once: built alone, each would ask its libraries for other features and compile them again.
        command = [cargo, "build", "--release", "--locked", "--workspace"]
        where = ["--manifest-path", str(WORKSPACE / "Cargo.toml"), "--target-dir", str(WORKSPACE / "target")]
        if subprocess.run([*command, *where], stdout=stderr, check=False).returncode:
            raise BadUseError(f"{self.called} could not be built: see cargo's message above")
        self.path.touch()  # cargo leaves the file alone when a newer source did not change what is built
        return self.path

    def sources(self) -> Iterator[Path]:
        """Yield the files that decide what is built."""
        yield from (WORKSPACE / "Cargo.toml", WORKSPACE / "Cargo.lock")
        crate = WORKSPACE / self.crate
        yield crate / "Cargo.toml"
        yield from crate.glob("build.rs")
        yield from (crate / "src").rglob("*.rs")

    def digest(self) -> str:
        """Return what tells builds of its different versions apart; the same for all where there are no sources."""
        digest = hashlib.sha256()
        for path in filter(Path.is_file, sorted(self.sources())):
            digest.update(str(path.relative_to(WORKSPACE)).encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:8]


STORE = Program(crate="s3-store", called="the embedded store")
ZARRS_READER = Program(crate="zarrs-reader", called="the Rust reader")


PROGRAMS = (STORE, ZARRS_READER)


def _has_sources() -> bool:
    """Whether this is the repository: an installed package holds nothing in Rust."""
    return (WORKSPACE / "Cargo.toml").is_file()


def find_cargo() -> str | None:
    """Return the path of cargo, on PATH or where its installer puts it, or None."""
    return shutil.which("cargo") or shutil.which("cargo", path=Path.home() / ".cargo" / "bin")


if __name__ == "__main__":  # what cargo prints is a log
    try:
        for program in PROGRAMS:
            program.build()
    except BadUseError as error:
        sys.exit(f"zcb: {error}")

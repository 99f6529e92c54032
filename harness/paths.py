"""Where files live: the repository or the installed package, and the state directory with all that runs write."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from harness.errors import BadUseError

ROOT = Path(__file__).resolve().parent.parent
"""The folder that processes import harness from: the repository, or where pip put the package."""

_MOST_NBYTES = 256 << 20
"""Of a file: a workload's truth takes six bytes for each of at most 20,000,000 chunks."""

_SHIPPED = Path(__file__).resolve().parent / "shipped"

ZARR_REPOSITORY = "https://github.com/zarr-developers/zarr-python.git"
"""zarr-python's own repository."""

ZARR_REPOSITORY_VARIABLE = "ZCB_ZARR_REPO"
"""Environment variable with zarr-python's repository, a URL or a path, instead of the one in asv.conf.json."""


def in_repository() -> bool:
    """Whether harness runs from a checkout of the repository, which has more than the installed package."""
    return (ROOT / "rust" / "Cargo.toml").is_file()


def repository_file(name: str, *, instead: str) -> Path:
    """Return the path of a file or folder that only the repository has.

    Parameters
    ----------
    name
        Its path there.
    instead
        What a person can do where only the package is installed, as the end of a sentence.

    Raises
    ------
    BadUseError
        Only the package is installed.
    """
    if not in_repository():
        raise BadUseError(f"{name} is in the repository of zarr-cloud-bench, and here is only its package: {instead}")
    return ROOT / name


def shipped(name: str) -> Path:
    """Return the path of a file of the repository that the installed package has too, e.g. ``targets.toml``.

    harness/shipped/ holds a symbolic link to each such file; building a wheel puts the file itself in its place.
    """
    return (_SHIPPED / name).resolve()


def state_dir() -> Path:
    """Return the directory of everything runs keep between commands.

    It is ``ZCB_STATE_DIR``, by default ``.zcb`` in the repository; without one, a folder of the user's.
    """
    given = os.environ.get("ZCB_STATE_DIR")
    if given:
        return Path(given)
    if in_repository():
        return ROOT / ".zcb"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "zarr-cloud-bench"


def contents(path: Path) -> bytes:
    """Return what a file holds that a run wrote; an OSError says that it is longer than any (a device has no end)."""
    with path.open("rb") as file:
        data = file.read(_MOST_NBYTES + 1)
    if len(data) > _MOST_NBYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    A reader of `path` sees the old content or the new, never a part. A symbolic link stays, and what it names is
    replaced. What is there and is no regular file, a device or a FIFO, stays too: it is written to.
    """
    if path.exists() and not path.is_file():
        with os.fdopen(os.open(path, os.O_WRONLY), "wb") as file:
            yield file
        return
    named = Path(os.path.realpath(path))
    named.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=named.parent, prefix=f".{named.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(named)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Give `path` the `content`, all of it or nothing; what is no regular file is written to (`replacing`)."""
    with replacing(path) as file:
        file.write(content)

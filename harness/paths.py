"""Where files live: the repository, and the state directory with everything a run writes."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

ZARR_REPOSITORY = "https://github.com/zarr-developers/zarr-python.git"
"""zarr-python's own repository."""

ZARR_REPOSITORY_VARIABLE = "ZCB_ZARR_REPO"
"""Environment variable with zarr-python's repository, a URL or a path, instead of the one in asv.conf.json."""


def state_dir() -> Path:
    """Return the directory of everything runs keep between commands (``ZCB_STATE_DIR``, default ``.zcb``)."""
    return Path(os.environ.get("ZCB_STATE_DIR") or ROOT / ".zcb")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path` that takes its name when the block ends without an error.

    A reader of `path` sees the old content or the new, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Give `path` the `content`, all of it or nothing."""
    with replacing(path) as file:
        file.write(content)

"""Tests marked ``alone`` run while no other test does, whatever the number of pytest's workers.

Each test holds one lock while it runs: shared, or alone. Who wants it alone keeps others from beginning meanwhile, else
they could go on for ever, one after the other.
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Hold the right to run; `folder` is one that all workers share."""
    with (folder / "next").open("a") as door, (folder / "running").open("a") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield

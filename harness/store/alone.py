"""One measurement at a time on the embedded store of a state directory: its counters cannot tell two clients apart."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

from harness.store.state import store_dir
from harness.targets import EMBEDDED, Target


class Alone:
    """The right to measure, from construction to `end`; a killed process gives it back too.

    Parameters
    ----------
    say
        Told, in a line, when another measurement has to end first.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        store_dir().mkdir(parents=True, exist_ok=True)
        self._file = (store_dir() / "measuring").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            say(f"waiting for another measurement on this store (process {self._file.read().strip() or 'unknown'}) ...")
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def end(self) -> None:
        """Let the next measurement begin."""
        self._file.close()


@contextlib.contextmanager
def alone_at(target: Target, say: Callable[[str], None]) -> Iterator[None]:
    """Keep requests of our own out of what a measurement counts: on the embedded store, wait until it has ended.

    Not for a process that has a `Probe`: it would wait for itself.
    """
    alone = Alone(say) if target.name == EMBEDDED else None
    try:
        yield
    finally:
        if alone is not None:
            alone.end()

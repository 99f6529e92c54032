"""One measurement at a time on the embedded store of a state directory: its counters cannot tell two clients apart."""

import fcntl
import logging
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from harness.store.state import store_dir

_log = logging.getLogger(__name__)


class MeasurementLock:
    """The right to measure, from construction to `end`; a killed process gives it back too. Also a context manager.

    A thread that has it may take it again, as when a measurement makes its own workload: it has it until it has ended
    each. Other threads and other processes wait.
    """

    def __init__(self) -> None:
        folder = store_dir().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._right: _Right | None = _rights.setdefault(folder, _Right(folder / "measuring"))
        self._right.take()

    def end(self) -> None:
        """Let the next measurement begin."""
        right, self._right = self._right, None
        if right is not None:
            right.give_back()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class _Right:
    """The right of this process on one store: a lock among its threads, and the kernel's on a file among processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.RLock()
        self._file: IO[str] | None = None
        self._times = 0

    def take(self) -> None:
        if not self._thread.acquire(blocking=False):
            _tell_waiting(str(os.getpid()))
            self._thread.acquire()
        try:
            if self._times == 0:
                self._file = _locked(self._path)
            self._times += 1
        except BaseException:
            self._thread.release()
            raise

    def give_back(self) -> None:
        self._times -= 1
        if self._times == 0:
            self.forget()
        self._thread.release()

    def forget(self) -> None:
        """Close the file, and with it give back what the kernel holds for its last owner."""
        if self._file is not None:
            self._file.close()
            self._file = None


_rights: dict[Path, _Right] = {}
"""By folder of the store's state."""


def _locked(path: Path) -> IO[str]:
    """Return the file, locked for this process, with its number in it."""
    file = path.open("a+")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            _tell_waiting(file.read().strip())
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _tell_waiting(process: str) -> None:
    _log.info(f"waiting for another measurement on this store (process {process or 'unknown'}) ...")


def _forget_parents() -> None:
    """Let a forked process have none of its parent's rights, nor keep them when the parent gives them back."""
    for right in _rights.values():
        right.forget()
    _rights.clear()


os.register_at_fork(after_in_child=_forget_parents)

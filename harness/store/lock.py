"""One measurement at a time on the embedded store of a state directory: its counters cannot tell two clients apart."""

import fcntl
import logging
import os
from types import TracebackType
from typing import Self

from harness.store.state import store_dir

_log = logging.getLogger(__name__)


class MeasurementLock:
    """The right to measure, from construction to `end`; a killed process gives it back too. Also a context manager."""

    def __init__(self) -> None:
        store_dir().mkdir(parents=True, exist_ok=True)
        self._file = (store_dir() / "measuring").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            _log.info(
                f"waiting for another measurement on this store (process {self._file.read().strip() or 'unknown'}) ..."
            )
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def end(self) -> None:
        """Let the next measurement begin."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

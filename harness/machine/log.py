"""What our modules log, line by line, for whoever watches: commands show it on stderr, benchmarks to asv."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import override

from harness.machine.redact import redacted

_OURS = ("harness", "setup_data", "studies")


def show_progress(write: Callable[[str], None]) -> None:
    """Give `write` each line that our modules log from now on, without secrets, instead of who had them before.

    Other libraries' messages are not shown.
    """
    for name in _OURS:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if isinstance(handler, _Lines)]:
            logger.removeHandler(handler)
        logger.addHandler(_Lines(write))
        logger.setLevel(logging.INFO)


@contextlib.contextmanager
def progress_to(write: Callable[[str], None]) -> Iterator[None]:
    """Give `write` each line that our modules log inside the block, beside who gets them anyway."""
    lines = _Lines(write)
    loggers = [(logger, logger.level) for logger in map(logging.getLogger, _OURS)]
    for logger, _ in loggers:
        logger.addHandler(lines)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in loggers:
            logger.removeHandler(lines)
            logger.setLevel(level)


@contextlib.contextmanager
def silenced(name: str) -> Iterator[None]:
    """Let the module `name` log nothing inside the block."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Lines(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._write(redacted(record.getMessage()))

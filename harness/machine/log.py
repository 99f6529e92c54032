"""What our modules log, line by line, for whoever watches: commands show it on stderr, benchmarks to asv."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import override

import msgspec

from harness.machine.redact import redacted

OURS = ("harness", "setup_data", "studies")
"""The packages whose modules' lines are for people."""
_STEP = "zcb_step"
_ERROR = re.compile(r"[\W_]*[\w.]*(Error|ERROR)\b:")
"""A line that says which error it was, as pip and Python do."""


def show_progress(write: Callable[[str], None]) -> None:
    """Give `write` each line that our modules log from now on, without secrets, instead of who had them before.

    Other libraries' messages are not shown.
    """
    for name in OURS:
        logger = logging.getLogger(name)
        for handler in [handler for handler in logger.handlers if isinstance(handler, _Lines)]:
            logger.removeHandler(handler)
        logger.addHandler(_Lines(write))
        logger.setLevel(logging.INFO)


@contextlib.contextmanager
def progress_to(write: Callable[[str], None]) -> Iterator[None]:
    """Give `write` each line that our modules log inside the block, beside who gets them anyway."""
    lines = _Lines(write)
    loggers = [(logger, logger.level) for logger in map(logging.getLogger, OURS)]
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


def report(logger: logging.Logger, line: str, *, step: str, share: float) -> None:
    """Log a line that also tells how far a step is, for `steps_to`.

    Parameters
    ----------
    logger
        The module's.
    line
        For people.
    step
        What is being done, in the words of who asked for it.
    share
        How much of it is done, 1 when it is.
    """
    logger.info(line, extra={_STEP: Step(step, min(1.0, share))})


def steps_to(path: Path) -> None:
    """Append each step that our modules report from now on, and each warning, to a file, as a line of JSON."""
    for name in OURS:
        logging.getLogger(name).addHandler(_Steps(path))


def reason_in(output: str) -> str:
    """Return the line of what a failed program printed that says why: the last of ours, of an error, or of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    ours = [line for line in lines if line.startswith("zcb: ")]
    errors = [line for line in lines if _ERROR.match(line)]
    return (ours or errors or lines or ["it printed nothing"])[-1].removeprefix("zcb: ")


def last_line(output: str) -> str:
    """Return the last line of what a failed program printed."""
    return (output.strip().splitlines() or ["no message"])[-1]


class Step(msgspec.Struct, frozen=True, array_like=True):
    """How far something is, or a warning."""

    name: str
    share: float
    warning: str = ""
    """Then `name` is empty."""


class _Steps(logging.Handler):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @override
    def emit(self, record: logging.LogRecord) -> None:
        step = getattr(record, _STEP, None)
        if record.levelno >= logging.WARNING:
            step = Step("", 0.0, redacted(record.getMessage()))
        if step is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(step) + b"\n")


class _Lines(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._write(redacted(record.getMessage()))

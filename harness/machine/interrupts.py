"""Ctrl-C ends a command in one line, whatever it is doing: starting, waiting inside a library, or cleaning up.

Python tells of a signal between two of its own instructions. A library that waits for a server in one long call of
its own keeps the main thread from hearing of Ctrl-C for as long, so another thread listens too.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 130
"""Of a command that was interrupted, as shells have it."""

GRACE_SECONDS = 1.0
"""What an interrupted command has for cleaning up."""

_LINE = b"zcb: interrupted\n"


class Interrupted[Found](KeyboardInterrupt):
    """Ctrl-C during a measurement that had found something until then."""

    def __init__(self, found: Found) -> None:
        super().__init__()
        self.found = found
        """What the measurement would have returned, without what was under way."""


def end_at_once() -> None:
    """Let Ctrl-C end this process from now on, with one line; one that was started to ignore it still does."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)


def let_clean_up() -> None:
    """Let Ctrl-C raise KeyboardInterrupt from now on, and end this process `GRACE_SECONDS` later if it still runs.

    Nothing changes in a process that never asked for `end_at_once`.
    """
    if signal.getsignal(signal.SIGINT) is not _end:
        return
    import threading  # what the first moments of a command can do without

    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_grace, args=(heard,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def shown_when_interrupted(show: Callable[[Any], None]) -> Iterator[None]:
    """Show what a measurement had found when Ctrl-C ends it: an hour of a rented machine is not lost."""
    try:
        yield
    except Interrupted as stopped:
        show(stopped.found)
        sys.stdout.flush()  # this process may be ended before Python does it
        raise


@contextlib.contextmanager
def terminated_with_cleaning() -> Iterator[None]:
    """Let SIGTERM leave the block as an error does, so that what it changed is put right; in the main thread only."""
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _end_after_grace(heard: int) -> None:
    """Wait until the interpreter's own handler, which runs whatever the main thread does, has written SIGINT."""
    while signal.SIGINT not in os.read(heard, 1):
        pass
    time.sleep(GRACE_SECONDS)
    _end()


def _end(_number: int = signal.SIGINT, _frame: FrameType | None = None) -> NoReturn:
    try:
        os.write(2, _LINE)
    finally:
        os._exit(EXIT_CODE)

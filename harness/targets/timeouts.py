"""How long a store may be silent before a command gives it up: one setting for all that harness itself asks of it.

Readers under test run in processes of their own, where nothing is set: they have what their libraries give them.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

DEFAULT_SECONDS = 30.0
"""What a command waits for a connection, for an answer, and for the next part of its body."""

_seconds: ContextVar[float | None] = ContextVar("allowed_silence", default=None)


@contextlib.contextmanager
def silence_allowed(seconds: float = DEFAULT_SECONDS) -> Iterator[None]:
    """Give a store up inside the block when it has been silent for so many seconds."""
    before = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(before)


def allowed_silence() -> float | None:
    """Return the seconds that a store may be silent; None where only the libraries' own limits hold."""
    return _seconds.get()

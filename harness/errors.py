"""The errors a person sees: one line each, with the exit code that says what kind of trouble it was."""

from typing import ClassVar


class ZcbError(Exception):
    """An error whose message is complete: what was wrong and what to do, in one line."""

    exit_code: ClassVar[int] = 4


class AnswerIsNoError(ZcbError):
    """The command worked and its answer is no: slower, or data that do not verify."""

    exit_code = 1


class BadUseError(ZcbError):
    """The command cannot be carried out as asked: a wrong name, value, file or missing precondition."""

    exit_code = 2


class TooLargeError(BadUseError):
    """A workload's arrays do not fit into this machine's memory beside everything else; benchmarks show it as n/a."""


class StoreError(ZcbError):
    """The object store cannot be reached or refuses: connection, bucket, credentials, disk full."""

    exit_code = 3


class MeasurementError(ZcbError):
    """A measurement failed: a reader raised, an array was wrong, a request failed. No figure is recorded."""

    exit_code = 4


class UnsupportedError(Exception):
    """A reader cannot carry out this workload at all; the message is the reason shown beside n/a."""

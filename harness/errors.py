"""The errors a person sees: one line each, with the exit code that says what kind of trouble it was."""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class ZcbError(Exception):
    """An error whose message is complete: what was wrong and what to do, in one line."""

    exit_code: ClassVar[int] = 4

    def __str__(self) -> str:
        # What it quotes may hold anything that ends a line.
        return " ".join(super().__str__().split())


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


WRONG_DATA = "WRONG DATA"
"""What stands first wherever an array that is not the truth is the reason of a failure."""


class WrongDataError(MeasurementError):
    """A reader returned an array that is not the truth; the message begins with `WRONG_DATA`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason if reason.startswith(WRONG_DATA) else f"{WRONG_DATA}: {reason}")


def blamed(who: str, reason: str) -> str:
    """Return the reason of a failure with who it was of: ``who: reason``, but that data were wrong stays first."""
    if reason.startswith(WRONG_DATA):
        return f"{WRONG_DATA} ({who}){reason.removeprefix(WRONG_DATA)}"
    return f"{who}: {reason}"


def wrong_data_first(reason: str) -> bool:
    """Return a reason's place among others when they are sorted by it."""
    return not reason.startswith(WRONG_DATA)


class UnsupportedError(Exception):
    """A reader cannot carry out this workload at all; the message is the reason shown beside n/a."""


def check_schema(fields: object, schema: int, origin: object) -> None:
    """Refuse JSON of another version of a contract with a BadUseError; what is no object has none.

    Parameters
    ----------
    fields
        The JSON, parsed.
    schema
        The version that is read.
    origin
        The file, for the message.
    """
    if isinstance(fields, dict) and fields.get("schema") != schema:
        raise BadUseError(f"{origin} has schema {fields.get('schema')!r}; this version reads {schema}")


_LONGEST = 80


def unknown(what: str, name: str, choices: Iterable[str]) -> BadUseError:
    """Return the error for a name that is none of the choices: the one that was probably meant stands first.

    Parameters
    ----------
    what
        The kind of thing, e.g. ``pattern``.
    name
        What was asked for.
    choices
        All there is, in the order to name it.
    """
    known = list(choices)
    meant = difflib.get_close_matches(name[:_LONGEST], known, n=1)
    guess = f"did you mean {meant[0]!r}? " if meant else ""
    shown = repr(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 3]}...")
    return BadUseError(f"unknown {what} {shown}: {guess}choose from {', '.join(known)}")

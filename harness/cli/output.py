"""What commands print to: what cannot be printed is an error, and a character that a terminal lacks is spelt."""

import codecs
import io
import sys
from typing import Any, override

import msgspec

from harness.errors import BadUseError, ZcbError

_SPELT = {"±": "+-", "→": "->", "…": "...", "▌": "|", "▋": "|", "▊": "#", "▉": "#", "█": "#"}
"""What our tables and rich's hold beyond ASCII; of the bars' eighths those that are half a character or more."""
_SPELLING = "zcb-spelling"


class ReaderGoneError(ZcbError):
    """Nobody reads what is printed any more (``zcb ... | head``): the process ends as one that SIGPIPE ends."""

    exit_code = 141


class _Stdout(io.FileIO):
    """A stdout whose errors are ours: libraries take an OSError for something to be silent about."""

    @override
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError as error:
            raise ReaderGoneError("nobody reads the output any more") from error
        except OSError as error:
            raise BadUseError(f"cannot write to stdout: {error.strerror}") from error


def take_over() -> None:
    """Let this process print through a stdout of ours; one that it was started without stays away."""
    codecs.register_error(_SPELLING, _spell)
    before = sys.stdout
    if before is None:
        return
    before.flush()
    raw = _Stdout(before.fileno(), "wb", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=before.encoding, errors=_SPELLING, line_buffering=bool(before.line_buffering)
    )


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Return the characters that an encoding lacks in other words, for `codecs.register_error`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELT.get(character, "?") for character in error.object[error.start : error.end]), error.end


def pretty(report: object) -> str:
    """Return a report as JSON, in lines that people can read too."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()

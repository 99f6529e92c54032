"""Figures and workloads as the terminal and the pages write them."""

from collections.abc import Iterable

from harness.results.intervals import FEWEST, Interval, rank
from harness.results.records import RowRecord
from harness.results.sessions import by_session
from harness.workload.model import DEFAULT_IN_FLIGHT

_ESCAPES = {
    "\\": "\\\\",
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    "|": "\\|",
    "](": "]\\(",  # would make a link or load a picture
    "`": "'",
    "\n": " ",
}
"""What is text here and would be markup in a comment, in the order of replacing."""


BAR = 24
"""Characters of a whole bar in a terminal's chart."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def bar(share: float) -> str:
    """Return a bar of a terminal's chart: `BAR` characters for a share of 1."""
    whole, part = divmod(round(share * BAR * 8), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")


def cores_in_words(count: float) -> str:
    """Return a number of cores with its noun."""
    return f"{count:g} core{'s' if count != 1 else ''}"


def number(value: float) -> str:
    """Return a value with three digits, a whole number as it is."""
    if value == round(value) or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:#.3g}"


def times(value: float) -> str:
    """Return a ratio with two decimals, more digits where it is small and fewer where it is large."""
    if value < 0.0995:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:#.3g}".rstrip(".")


def few(known: Interval) -> str:
    """Return what stands beside a median that has no interval."""
    return f"n={known.count}"


def coverage(rows: Iterable[RowRecord]) -> str:
    """Say what the intervals of rows rest on and cover, and that fewer values have none; empty without any.

    As in ``An interval rests on 7 processes and covers 98.4 %. With fewer than 6 values (n=3) there is none.``
    """
    found = {tuple(map(len, by_session(row.samples))) for row in rows if row.samples}
    kinds = sorted({(len(sizes) == 1, sizes[0] if len(sizes) == 1 else len(sizes)) for sizes in found})
    enough = [
        f"{count} samples of one process and covers {_percent(count)}"
        if of_one
        else f"{count} processes and covers {_percent(count)}"
        for of_one, count in kinds
        if count >= FEWEST
    ]
    few = sorted({count for _, count in kinds if count < FEWEST})
    said = [f"An interval rests on {', or '.join(enough)}."] if enough else []
    none = f"With fewer than {FEWEST} values ({', '.join(f'n={count}' for count in few)}) there is none."
    return " ".join([*said, none] if few else said)


def _percent(count: int) -> str:
    return f"{100 * rank(count)[1]:.1f} %"


def short_label(row: RowRecord) -> str:
    """Return a workload's name without its pattern: the dataset and what was asked for, e.g. ``small gap=1``."""
    name = row.label.partition(" ")[2] or row.dataset
    return name if row.in_flight == DEFAULT_IN_FLIGHT else f"{name} in-flight={row.in_flight}"


def detail(row: RowRecord) -> str:
    """Say how much a workload wants: chunks, shards, and the size of the final array."""
    chunks, shards = _counted(row.wanted_chunks, "chunk"), _counted(row.wanted_shards, "shard")
    size, unit = (row.array_bytes / 2**20, "MiB") if row.array_bytes >= 2**20 else (row.array_bytes / 2**10, "KiB")
    return f"{chunks}, {shards}, {number(size)} {unit}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def escaped(text: str) -> str:
    """Return what is text, and comes from outside, as text of Markdown."""
    for special, safe in _ESCAPES.items():
        text = text.replace(special, safe)
    return text


def code(text: str) -> str:
    """Return what stands between two backticks of Markdown."""
    return text.replace("`", "'").replace("\n", " ")

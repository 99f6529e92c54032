"""What commands share that let processes take turns in rounds: their options, their workload, their figures."""

from pathlib import Path
from typing import Any

import click

from harness.cli.values import FiniteRange, check_sessions
from harness.measure.rounds import Rounds
from harness.results.intervals import FEWEST, Interval
from harness.results.text import number
from harness.targets.client import require
from harness.targets.timeouts import silence_allowed
from harness.workload import files
from harness.workload.model import Workload


def rounds_options(command: Any) -> Any:
    """Give a command the options of `rounds_of`."""
    for decorate in reversed(
        (
            click.option(
                "--samples",
                type=click.IntRange(1, 1000),
                default=FEWEST,
                show_default=True,
                help="Rounds, in all sessions together; every session has as many.",
            ),
            click.option(
                "--sessions",
                type=click.IntRange(1, 1000),
                default=1,
                show_default=True,
                help="Fresh processes of each value, over which the rounds are spread.",
            ),
            click.option(
                "--patience",
                type=FiniteRange(min=0),
                default=20.0,
                show_default=True,
                metavar="SECONDS",
                help="A value whose turns took as long sits the session's other rounds out.",
            ),
        )
    ):
        command = decorate(command)
    return command


def rounds_of(samples: int, sessions: int, patience: float) -> Rounds:
    """Return how much to measure; a BadUseError says where sessions are more than samples."""
    check_sessions(samples, sessions)
    return Rounds(samples=samples, sessions=sessions, patience=patience)


def opened(path: Path, timeout: float) -> Workload:
    """Return a workload file's workload when its array can be reached."""
    loaded = files.load(path)
    click.get_current_context().with_resource(silence_allowed(timeout))
    require(loaded.target, loaded.array.metadata_key)
    return loaded


def median(found: Interval | None, factor: float = 1) -> str:
    """Return a figure in three digits, "-" where it is unknown."""
    return "-" if found is None else number(found.median * factor)


def spread(found: Interval | None) -> str:
    """Return the larger half of an interval in percent of the median, or how few samples there are."""
    if found is None:
        return ""
    if not found.sure:
        return f"n={found.count}"
    return f"{100 * max(found.high - found.median, found.median - found.low) / found.median:.0f}%"

"""Recording a timeline into a file, for the commands that do."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from harness.errors import BadUseError, MeasurementError, UnsupportedError
from harness.timeline.model import Timeline, save


def record_into(file: Path, name: str, record: Callable[[], Sequence[Timeline]]) -> None:
    """Record a timeline into `file` and say what it shows.

    Parameters
    ----------
    name
        Of the reader, for messages.
    record
        Returns the timeline to keep first.

    Raises
    ------
    BadUseError
        The reader cannot be recorded.
    MeasurementError
        The recording is not valid; it is kept for looking at, marked as such.
    """
    try:
        recorded = record()[0]
    except UnsupportedError as reason:
        raise BadUseError(f"{name} cannot be recorded: {reason}") from reason
    save(file, recorded)
    if not recorded.valid.ok:
        raise MeasurementError(f"{name}: the recording in {file} is not valid: {'; '.join(recorded.valid.failures)}")
    cost = recorded.overhead
    costs = "" if cost is None else f"; recording took {cost.ratio:.3f} x the time of {cost.pairs} plain executions"
    seconds = (recorded.end_ns - recorded.begin_ns) / 1e9
    said = f"{len(recorded.chunks)} chunks, {len(recorded.requests)} requests in {seconds * 1e3:.1f} ms"
    click.echo(f"{file}: {said}{_range(recorded)}{costs}", err=True)


def _range(recorded: Timeline) -> str:
    """Return between what all recordings lay, where there are several."""
    if recorded.repeats is None:
        return ""
    low, high = (1e3 * end(recorded.repeats.seconds) for end in (min, max))
    return f" ({low:.1f} to {high:.1f} ms in {len(recorded.repeats.seconds)} recordings)"

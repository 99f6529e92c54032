"""How often verdicts err and what they find: pairs of equal sides recorded once, and thousands of verdicts replayed.

``python -m studies.verdict_power record PATTERN -n 1000 -o pairs.json`` measures a version against itself;
``python -m studies.verdict_power replay pairs.json`` draws blocks of those pairs with replacement, in the order
in which a live verdict would have met them, adds an invented slowdown, and counts the answers;
``python -m studies.verdict_power live PATTERN ... -n 30 --every 240 -o verdicts.json`` takes whole verdicts of a
version against itself, one of each pattern every so many seconds; with ``--slowdown 0.05`` head's reader is held up by
that share of its own time. What the file holds already is counted, so that verdicts of several days stand in one table.
docs/verdicts.md holds what came out.
"""

import dataclasses
import datetime
import itertools
import math
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from harness.errors import BadUseError, MeasurementError
from harness.paths import write_atomically
from harness.targets.resolve import resolve
from harness.verdict import builds, sides
from harness.verdict.judge import Rules, compare, empty
from harness.verdict.pairs import PairedRuns
from harness.verdict.run import of_pattern
from harness.verdict.sides import Side
from harness.verdict.statistics import LOOKS, Answer, judge_blocks, next_look
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import PATTERNS

_HEADINGS = ("slower", "faster", "no difference", "not enough data", "blocks", "seconds", "p95 s")
_SLEEP = """
import time
import harness.readers.zarr_python as readers
plain = readers.ZarrPython.read
def read(self):
    begin = time.perf_counter()
    arrays = plain(self)
    time.sleep({slowdown} * (time.perf_counter() - begin))
    return arrays
readers.ZarrPython.read = read
"""
"""What a held up side's processes import first."""


class RecordedPair(msgspec.Struct, frozen=True):
    """One pair of equal sides."""

    block: int
    log_ratio: float
    seconds: float
    """What taking it cost, warm-ups and its share of new processes included."""


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs of a version against itself."""

    reader: str
    workload: str
    side: str
    pairs: list[RecordedPair]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict of one workload, replayed or live."""

    answer: Answer
    blocks: int
    seconds: float


class Taken(Replayed, frozen=True, kw_only=True):
    """One live verdict."""

    workload: str
    slowdown: float
    at: datetime.datetime
    ratio: float
    """Head over base, with its interval."""
    low: float
    high: float


def replay_once(
    blocks: Sequence[Sequence[RecordedPair]], slowdown: float, rules: Rules, rng: random.Random
) -> Replayed:
    """Return what a verdict would have said of pairs drawn block by block, head slowed down by `slowdown`."""
    shift, taken, spent = math.log1p(slowdown), list[list[float]](), 0.0
    while next_look(len(taken)) is not None and spent < rules.seconds:
        block, sign = rng.choice(blocks), rng.choice((-1.0, 1.0))  # both sides are equal: either may be called head
        taken.append([sign * pair.log_ratio + shift for pair in block])
        spent += sum(pair.seconds for pair in block)
        if len(taken) in LOOKS:
            said = judge_blocks(taken, rules.comparisons, smallest=rules.smallest).answer
            if said is not Answer.UNKNOWN:
                return Replayed(answer=said, blocks=len(taken), seconds=spent)
    return Replayed(answer=Answer.UNKNOWN, blocks=len(taken), seconds=spent)


_READER = click.option("--reader", default="zarr-python+obstore", show_default=True)
_SIDE = click.option("--side", default="3.3.0", show_default=True, help="What is compared with itself.")
_TARGET = click.option("--target", default="embedded:s3", show_default=True)


def _workload(pattern: str, target: str) -> Workload:
    case = of_pattern(pattern)[0]
    return create_workload(pattern, resolve(target), dataset=case.dataset, parameters=case.parameters)


def _side(spec: str) -> Side:
    return sides.make(spec, builds.overlay(spec, None), {})


def _built_anew(spec: str, folder: Path) -> Side:
    """Return a side whose packages were built for it alone, in a state directory of its own."""
    with _state_in(folder):
        return _side(spec)


@contextmanager
def _state_in(folder: Path) -> Iterator[None]:
    before = os.environ.get("ZCB_STATE_DIR")
    os.environ["ZCB_STATE_DIR"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["ZCB_STATE_DIR"]
        else:
            os.environ["ZCB_STATE_DIR"] = before


@click.group()
def power() -> None:
    """Measure how often verdicts err, and what they find."""


@power.command()
@click.argument("pattern", type=click.Choice(list(PATTERNS)))
@_READER
@_SIDE
@_TARGET
@click.option("-n", "--pairs", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def record(pattern: str, reader: str, side: str, target: str, pairs: int, output: Path) -> None:
    """Take pairs of one version against itself, on a pattern's first workload."""
    workload, one = _workload(pattern, target), _side(side)
    taken: list[RecordedPair] = []
    try:
        with PairedRuns(reader, workload, {"base": one, "head": one}) as runs:
            before = time.monotonic()
            for pair in itertools.islice(runs.pairs(), pairs):
                now = time.monotonic()
                taken.append(RecordedPair(pair.block, pair.log_ratio, now - before))
                before = now
    finally:  # pairs of an hour are worth keeping, whatever ends it
        made = Recording(reader=reader, workload=workload.label, side=one.detail, pairs=taken)
        if taken:
            write_atomically(output, msgspec.json.encode(made) + b"\n")
    click.echo(_spread(made))


@power.command()
@click.argument("recordings", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-n", "--verdicts", type=int, default=5000, show_default=True)
@click.option("--comparisons", type=int, default=12, show_default=True, help="Readers times workloads in a verdict.")
@click.option("--seconds", type=float, default=180.0, show_default=True, help="Budget of each.")
@click.option("--seed", type=int, default=0)
def replay(recordings: tuple[Path, ...], verdicts: int, comparisons: int, seconds: float, seed: int) -> None:
    """Replay verdicts from recorded pairs, with invented slowdowns."""
    rules = Rules(comparisons=comparisons, seconds=seconds)
    table = Table("workload", "slowdown", *_HEADINGS)
    for path in recordings:
        recording = _load(path, Recording)
        click.echo(_spread(recording))
        blocks = [list(group) for _, group in itertools.groupby(recording.pairs, key=lambda pair: pair.block)]
        for slowdown in (0.0, 0.03, 0.05, 0.10, 0.20):
            rng = random.Random(f"{seed} {slowdown}")  # noqa: S311 - resampling
            table.add_row(
                recording.workload,
                f"{slowdown:.0%}",
                *_row([replay_once(blocks, slowdown, rules, rng) for _ in range(verdicts)]),
            )
    Console(width=130).print(table)


@power.command()
@click.argument("patterns", nargs=-1, required=True, type=click.Choice(list(PATTERNS)))
@_READER
@_SIDE
@_TARGET
@click.option("-n", "--verdicts", type=int, default=30, show_default=True, help="Of each pattern's first workload.")
@click.option("--every", type=float, default=0.0, help="Seconds from the begin of a round of them to that of the next.")
@click.option("--slowdown", type=float, default=0.0, help="Share of its own time that head is held up.")
@click.option("--comparisons", type=int, default=12, show_default=True, help="Readers times workloads in a verdict.")
@click.option("--seconds", type=float, default=180.0, show_default=True, help="Budget of each.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True)
def live(
    patterns: tuple[str, ...], reader: str, side: str, target: str, verdicts: int, every: float, slowdown: float,
    comparisons: int, seconds: float, output: Path,
) -> None:  # fmt: skip
    """Take verdicts of one version against itself, built a second time, or against itself held up."""
    works = [_workload(pattern, target) for pattern in patterns]
    rules = Rules(comparisons=comparisons, seconds=seconds)
    taken = _load(output, list[Taken]) if output.exists() else []
    with tempfile.TemporaryDirectory() as folder:
        one, other = (_built_anew(side, Path(folder, name)) for name in ("base", "head"))
        both = {"base": one, "head": _held_up(other, Path(folder), slowdown) if slowdown else other}
        for number in range(verdicts):
            begin = time.monotonic()
            for workload in works:
                taken.append(_verdict(reader, workload, both, rules, seed=len(taken), slowdown=slowdown))
                write_atomically(output, msgspec.json.encode(taken) + b"\n")
            if number < verdicts - 1:
                time.sleep(max(0.0, begin + every - time.monotonic()))
    _table_of(taken)


def _verdict(
    reader: str, workload: Workload, both: Mapping[str, Side], rules: Rules, *, seed: int, slowdown: float
) -> Taken:
    finding = empty(reader, workload)
    compare(finding, workload, both, rules, seed=seed)
    if finding.error is not None:
        raise MeasurementError(finding.error)
    if finding.ratio is None or finding.low is None or finding.high is None:
        raise MeasurementError(f"{workload.label}: {len(finding.blocks())} blocks are too few for an interval")
    taken = Taken(
        workload=workload.label,
        slowdown=slowdown,
        at=datetime.datetime.now(datetime.UTC),
        answer=finding.answer,
        blocks=len(finding.blocks()),
        seconds=finding.seconds,
        ratio=finding.ratio,
        low=finding.low,
        high=finding.high,
    )
    click.echo(
        f"{taken.at:%H:%M:%S} {taken.workload}: {taken.answer.value}, {taken.blocks} blocks, {taken.seconds:.0f} s, "
        f"{taken.ratio:.3f} [{taken.low:.3f}, {taken.high:.3f}]"
    )
    return taken


def _table_of(taken: Sequence[Taken]) -> None:
    groups = dict[tuple[str, float], list[Taken]]()
    for one in taken:
        groups.setdefault((one.workload, one.slowdown), []).append(one)
    table = Table("workload", "slowdown", "verdicts", "hours", *_HEADINGS)
    for (workload, slowdown), of_group in groups.items():
        hours = (of_group[-1].at - of_group[0].at).total_seconds() / 3600
        table.add_row(workload, f"{slowdown:.0%}", str(len(of_group)), f"{hours:.1f}", *_row(of_group))
    Console(width=150).print(table)


def _held_up(side: Side, folder: Path, slowdown: float) -> Side:
    """Return the side with a reader that sleeps for a share of each read's time after it."""
    (folder / "sitecustomize.py").write_text(_SLEEP.format(slowdown=slowdown))
    path = os.pathsep.join(filter(None, [str(folder), side.environment.get("PYTHONPATH")]))
    return dataclasses.replace(side, environment={**side.environment, "PYTHONPATH": path})


def _row(replayed: Sequence[Replayed]) -> list[str]:
    said = Counter(one.answer for one in replayed)
    shares = [f"{said[a] / len(replayed):.2%}" for a in (Answer.SLOWER, Answer.FASTER, Answer.SAME, Answer.UNKNOWN)]
    seconds = [one.seconds for one in replayed]
    return [
        *shares,
        f"{np.median([one.blocks for one in replayed]):.0f}",
        f"{np.median(seconds):.0f}",
        f"{np.percentile(seconds, 95):.0f}",
    ]


def _load[T](path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise BadUseError(f"{path} does not hold what was recorded: {error}") from error


def _spread(recording: Recording) -> str:
    values = np.array([pair.log_ratio for pair in recording.pairs])
    blocks = [[p.log_ratio for p in group] for _, group in itertools.groupby(recording.pairs, key=lambda p: p.block)]
    within = math.sqrt(np.mean([np.var(block, ddof=1) for block in blocks if len(block) > 1]))
    medians = np.std([np.median(block) for block in blocks], ddof=1)
    robust = (np.percentile(values, 84) - np.percentile(values, 16)) / 2
    return (
        f"{recording.workload}: {len(values)} pairs in {len(blocks)} blocks, median {math.exp(np.median(values)):.4f}, "
        f"spread {values.std():.4f} (robust {robust:.4f}), within blocks {within:.4f}, of block medians {medians:.4f}"
    )


if __name__ == "__main__":
    power()

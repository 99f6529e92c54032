"""How far a projection is off: cells measured at several links, cores and requests in flight, some foretold by others.

``zcb store start --profile s3``, ``zcb data create --target embedded --preset demo``, then
``python -m studies.projection_fit record -o cells.json`` measures (some 20 minutes on a quiet machine of two cores;
the store is started anew for each link, and at the end as it was), and ``python -m studies.projection_fit check
cells.json`` foretells. docs/projection.md holds what came out.
"""

import itertools
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.machine.log import show_progress
from harness.measure.floor import service_of
from harness.measure.rounds import Measured, Point, Rounds, take
from harness.paths import contents, write_atomically
from harness.readers.settings import Value
from harness.results.costs import MeasuredCell, by_row, measured_cell, place_of
from harness.results.projection import Told, project, scaling
from harness.results.tolls import Toll, encryption
from harness.store import lifecycle
from harness.targets.resolve import found_again, resolve
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import Parameters

_log = logging.getLogger("studies.projection_fit")

ONE_THREAD = "zarr-python+obstore, one thread"
"""zarr-python with the settings that a search found best on whole `small`, whatever the cores (docs/tuning.md)."""
CHOSEN: Mapping[str, tuple[str, Mapping[str, Value]]] = {
    ONE_THREAD: (
        "zarr-python+obstore",
        {
            "codec_pipeline.path": "zarr.core.codec_pipeline.FusedCodecPipeline",
            "codec_pipeline.max_workers": 1,
            "threading.max_workers": 1,
        },
    )
}
"""Rows that are no reader's own -> the reader, and what it is given in the place of its documentation's settings."""
READERS = (ONE_THREAD, "zarr-python+obstore+fused", "tensorstore", "zarrista", "zarrs", "zarrs-planned")
WORKLOADS: Sequence[tuple[str, str, Parameters]] = (
    ("chunks_of_many_shards", "small", Parameters(shards=64)),
    ("random_crops", "small", Parameters()),
    ("whole_array", "small", Parameters()),
)
"""The quickest first: of a recording that ends early more of them are there."""
LINKS_GBIT_S = (2.0, 10.0)
IN_FLIGHT = (10, 40, 100, 400)
_PATIENCE = 10.0
"""Seconds after which a cell sits out; the slowest take a few."""
_LARGE_ERROR = 0.25


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Cells, and how they were measured."""

    rounds: int
    minutes: float
    cells: list[MeasuredCell]


@click.group()
def main() -> None:
    """Check projections against measurements that they did not see."""
    show_progress(lambda line: click.echo(line, err=True))


@main.command()
@click.option("--reader", "readers", multiple=True, default=READERS, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Samples of each cell.")
@click.option("--minutes", type=click.FloatRange(1), default=20.0, show_default=True, help="No row starts later.")
@click.option("--tls", is_flag=True, help="Measure by TLS too.")
@click.option("--workloads", type=click.IntRange(1, len(WORKLOADS)), default=len(WORKLOADS), help="How many of them.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def record(readers: tuple[str, ...], rounds: int, minutes: float, tls: bool, workloads: int, output: Path) -> None:
    """Measure every reader and workload at each link, number of cores and number of requests in flight."""
    began = time.monotonic()
    target = resolve("embedded")
    works = [
        create_workload(name, target, dataset=data, parameters=asked) for name, data, asked in WORKLOADS[:workloads]
    ]
    recording = Recording(rounds=rounds, minutes=0.0, cells=[])
    with lifecycle.restarting() as again:
        ways = list(itertools.product(LINKS_GBIT_S, (False, True) if tls else (False,)))
        for number, (link, by_tls) in enumerate(ways, 1):
            again(link_gbit_s=link, tls=by_tls)
            here = [msgspec.structs.replace(work, target=found_again(work.target)) for work in works]
            until = began + 60 * minutes * number / len(ways)  # each has its share
            for cells in _rows(readers, here, rounds, until):
                spent = round((time.monotonic() - began) / 60, 1)
                recording = msgspec.structs.replace(recording, minutes=spent, cells=recording.cells + cells)
                write_atomically(output, msgspec.json.encode(recording) + b"\n")  # what ends early has something
    _log.info(f"{len(recording.cells)} cells in {recording.minutes} minutes: {output}")


def _rows(readers: Sequence[str], works: Sequence[Workload], rounds: int, until: float) -> Iterator[list[MeasuredCell]]:
    """Yield the cells of each row that starts in time."""
    for work, reader in itertools.product(works, readers):
        label = f"{work.label}, {reader}"
        if time.monotonic() >= until:
            _log.warning(f"{label}: left out, the time is up")
            continue
        measured = take(list(_points(reader, work)), Rounds(samples=rounds, patience=_PATIENCE), label=label)
        for one in measured:
            if not one.samples:
                _log.warning(f"{label}, {one.point.workload.in_flight} in flight: {one.error or one.na}")
        yield [cell for one in measured if (cell := _cell(reader, one)) is not None]


def _points(reader: str, work: Workload) -> Iterator[Point]:
    """Yield a point for each number of requests in flight, on one core and on all."""
    every = frozenset(os.sched_getaffinity(0))
    name, chosen = CHOSEN.get(reader, (reader, {}))
    for asked, cpus in itertools.product(IN_FLIGHT, ({min(every)}, every)):
        asking = msgspec.structs.replace(work, in_flight=asked)
        yield Point(reader=name, workload=asking, chosen=chosen, cpus=frozenset(cpus))


def _cell(row: str, one: Measured) -> MeasuredCell | None:
    work, cpus = one.point.workload, one.point.cpus
    every = len(os.sched_getaffinity(0))
    mine = len(cpus) if cpus else every
    place = place_of(service_of(work), mine, shared_cores=every, encrypted=work.target.is_encrypted)
    return measured_cell(
        one.samples,
        place=place,
        reader=row,
        label=work.label,
        in_flight=work.in_flight,
        reads=len(work.reads),
        concurrent_reads=work.concurrent_reads,
        array_bytes=work.array_bytes,
    )


Seen = Callable[[MeasuredCell], bool]


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Which cells are seen; all others are foretold."""

    seen: Seen
    with_others: bool = False
    """Whether all cells of the other workloads are seen too."""
    by_tls: bool = False
    """Whether cells by TLS are among them."""


def _every_other(one: MeasuredCell) -> bool:
    link = int(one.place.link_gbit_s != LINKS_GBIT_S[0])
    return (IN_FLIGHT.index(one.in_flight) + round(one.place.cores) + link) % 2 == 0


def _one_core(one: MeasuredCell) -> bool:
    return one.place.cores == 1


def _two_cores(one: MeasuredCell) -> bool:
    return not _one_core(one)


_OTHERS = "others tell"
SPLITS: Mapping[str, Split] = {
    "every other cell": Split(seen=_every_other),
    "another link": Split(seen=lambda one: one.place.link_gbit_s == LINKS_GBIT_S[0]),
    "another number in flight": Split(seen=lambda one: one.in_flight in IN_FLIGHT[::2]),
    "two cores from one": Split(seen=_one_core),
    "one core from two": Split(seen=_two_cores),
    f"two cores from one, {_OTHERS}": Split(seen=_one_core, with_others=True),
    f"one core from two, {_OTHERS}": Split(seen=_two_cores, with_others=True),
    f"TLS from plain HTTP, {_OTHERS}": Split(seen=lambda one: not one.place.encrypted, with_others=True, by_tls=True),
}
"""What is foretold -> of what; others are the reader's other workloads."""


class Miss(msgspec.Struct, frozen=True, kw_only=True):
    """A cell that was foretold."""

    cell: MeasuredCell
    error: float
    """Foretold over measured seconds, less 1."""
    inside: bool
    """Whether the measured median lies within the projection's interval."""
    binds: str


def foretold(every: Sequence[MeasuredCell], split: Split, readers: Sequence[str] = ()) -> list[Miss]:
    """Return how far projections from the cells that are seen are off on all others, row by row: of some readers."""
    found = []
    cells = [cell for cell in every if split.by_tls or not cell.place.encrypted]
    for row in by_row(cells):
        if readers and row[0].reader not in readers:
            continue
        known = [cell for cell in row if split.seen(cell)]
        more = _told(cells, split, *row[0].row)
        for cell in (cell for cell in row if known and not split.seen(cell)):
            if more.tls is None and all(one.place.encrypted != cell.place.encrypted for one in known):
                continue  # no other workload tells what TLS costs
            said = project(known, cell.place, cell.in_flight, more)
            found.append(
                Miss(
                    cell=cell,
                    error=said.seconds / cell.seconds - 1,
                    inside=said.low <= cell.seconds <= said.high,
                    binds=said.binds,
                )
            )
    return found


def _told(cells: Sequence[MeasuredCell], split: Split, reader: str, label: str) -> Told:
    """Return what the cells that are seen tell of a reader's rows when one of them is foretold."""
    seen = [cell for cell in cells if split.seen(cell) or (split.with_others and cell.label != label)]
    own = (cell for cell in seen if cell.reader == reader)
    return Told(tls=encryption(seen).get(reader), scaling=scaling(own).get(reader))


@main.command()
@click.argument("recording", type=click.Path(path_type=Path, exists=True))
@click.option("--worst", type=click.IntRange(0), default=10, show_default=True, help="Cells that are shown by name.")
@click.option("--reader", "readers", multiple=True, help="Of these rows alone.")
def check(recording: Path, worst: int, readers: tuple[str, ...]) -> None:
    """Foretell cells from others, and show by how much that is off."""
    loaded = _load(recording)
    table = _table("foretold", f"over\n{_LARGE_ERROR:.0%}", "in\ninterval")
    missed: list[tuple[str, Miss]] = []
    for name, split in SPLITS.items():
        of = foretold(loaded.cells, split, readers)
        if not of:  # a recording that ended early
            table.add_row(name, "0")
            continue
        missed += [(name, one) for one in of]
        sizes = [abs(one.error) for one in of]
        many = sum(size > _LARGE_ERROR for size in sizes)
        inside = statistics.fmean(one.inside for one in of)
        table.add_row(name, *_spread(sizes), str(many), f"{inside:.0%}")
    console = Console()
    console.print(f"Errors of the seconds: {len(loaded.cells)} cells, {loaded.rounds} rounds, {loaded.minutes} minutes")
    console.print(table)
    for reader, found in encryption(loaded.cells).items():
        console.print(f"TLS costs {reader} {_toll(found.cpu)}; the store {_toll(found.store_cpu)}", markup=False)
    for name, one in sorted(missed, key=lambda each: -abs(each[1].error))[:worst]:
        cell, place = one.cell, one.cell.place
        where = f"{place.link_gbit_s:g} Gbit/s, {place.cores:g} cores, {cell.in_flight} in flight"
        where += ", by TLS" * place.encrypted
        console.print(f"{one.error:+.0%} {cell.reader}, {cell.label}, {where} ({name}; {one.binds})", markup=False)


@main.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True))
@click.argument("second", type=click.Path(path_type=Path, exists=True))
def again(first: Path, second: Path) -> None:
    """Show how far cells that stand in two recordings differ: no projection can be surer than a measurement."""
    one, other = (
        {(*cell.row, cell.in_flight, cell.place): cell for cell in _load(path).cells} for path in (first, second)
    )
    apart: dict[str, list[float]] = {}
    for key in one.keys() & other.keys():
        size = abs(one[key].seconds / other[key].seconds - 1)
        for name in ("all", one[key].reader):
            apart.setdefault(name, []).append(size)
    table = _table("measured again")
    for name, sizes in sorted(apart.items()):
        table.add_row(name, *_spread(sizes))
    Console().print(table)


def _toll(toll: Toll) -> str:
    request, handshake = 1e3 * toll.request, 1e3 * toll.handshake
    return f"{1e9 * toll.byte:.2f} ns a byte, {request:.3f} ms a request, {handshake:.2f} ms a new connection"


def _load(path: Path) -> Recording:
    return msgspec.json.decode(contents(path), type=Recording)


def _table(name: str, *more: str) -> Table:
    table = Table(name, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("cells", "median", "95th", "worst", *more):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _spread(sizes: Sequence[float]) -> list[str]:
    """Return how many, their median, 95th percentile and worst."""
    high = sorted(sizes)[math.ceil(0.95 * len(sizes)) - 1]
    return [str(len(sizes)), *(f"{size:.1%}" for size in (statistics.median(sizes), high, max(sizes)))]


if __name__ == "__main__":
    main()

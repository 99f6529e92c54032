"""What a machine of many cores is expected to reach at a link of 100 Gbit/s, held against what it does.

The goals are those of 16 cores and 64 GiB of memory or more; with fewer the table says how far off it is::

    zcb store start --profile s3
    zcb data create --target embedded --preset big --gib 8
    python -m studies.many_cores

The store is started anew for each way, and at the end as it was. Nothing else may run. Readers
are those of their documentation: a maintainer who knows better settings for such a machine finds them by `zcb tune`.
"""

import math
import os
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from harness.errors import MeasurementError
from harness.machine.log import show_progress
from harness.machine.memory import is_given_to_host
from harness.measure import plateau
from harness.measure.rounds import Point, Rounds, take
from harness.readers import limit_clients
from harness.results.plateau import BODIES, GAIN
from harness.results.sample import THROWN_AWAY
from harness.results.text import number
from harness.store import lifecycle
from harness.targets.resolve import found_again, resolve
from harness.workload.create import create_workload
from harness.workload.model import Workload
from studies import sendfile, wrk

IN_FLIGHT = 400
"""At 90 MB/s a connection 139 fill the link; the rest hides their first bytes."""
RANGES = (32 << 10, 1 << 20, 8 << 20)
CONNECTIONS, SECONDS = 200, 2.0
"""Of the client that asks the store alone: its connections, and how long it asks for each range."""
OURS, PEERS = "zarrs-planned", ("tensorstore", "zarrista", "zarrs")


class Row(NamedTuple):
    """A figure and what it should be."""

    what: str
    figure: float
    goal: float | None
    """At least; at most where `less` is better. None: it stands there for comparison."""
    less: bool = False

    @property
    def answer(self) -> tuple[str, str]:
        """The goal, and whether it is reached."""
        if self.goal is None:
            return "", ""
        is_met = self.figure <= self.goal if self.less else self.figure >= self.goal
        return f"{'at most' if self.less else 'at least'} {self.goal:g}", "yes" if is_met else "no"


@click.command()
@click.option("--samples", type=click.IntRange(1), default=6, show_default=True, help="Rounds of each comparison.")
@click.option("--in-flight", type=click.IntRange(1), default=IN_FLIGHT, show_default=True)
@click.option("--link-gbit-s", type=click.FloatRange(1), default=100.0, show_default=True)
def main(samples: int, in_flight: int, link_gbit_s: float) -> None:
    """Print a Markdown table of figures and goals, each row as soon as it is known."""
    show_progress(lambda line: click.echo(line, err=True))
    work = create_workload("whole_array", resolve("embedded"), dataset="big/large", in_flight=in_flight)
    click.echo(f"{os.cpu_count()} cores, {work.array_bytes / 2**30:g} GiB, {in_flight} in flight\n")
    if is_given_to_host():
        click.echo("free memory is given back to a host here: some samples of large arrays take twice the time\n")
    click.echo("| | figure | goal | met |\n|---|---|---|---|")
    for row in _rows(work, samples, link_gbit_s):
        click.echo(f"| {' | '.join((row.what, number(row.figure), *row.answer))} |")


def _rows(work: Workload, samples: int, link_gbit_s: float) -> Iterator[Row]:
    yield from _store_alone(samples)
    with lifecycle.restarting() as again:
        for by_tls in (False, True):
            again(link_gbit_s=link_gbit_s, tls=by_tls)
            here = msgspec.structs.replace(work, target=found_again(work.target))
            yield from _limit(here, samples)
            yield from _readers(here, samples)
            if not by_tls:
                yield _beside_plain_c(here)


def _store_alone(turns: int) -> Iterator[Row]:
    """Yield what the store sends without a service time to a client that throws bodies away."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "root" / "bench").mkdir(parents=True)
        (folder / "root" / sendfile.OBJECT.strip("/")).write_bytes(os.urandom(sendfile.OBJECT_BYTES))
        program = sendfile.compiled(folder)
        server = stack.enter_context(sendfile.store_server("store", sendfile.STORE, folder / "root"))
        for nbytes in RANGES:
            one = (program, server, sendfile.OBJECT_BYTES, nbytes, CONNECTIONS, SECONDS)
            found = sendfile.medians([sendfile.turn(*one) for _ in range(turns)])
            what = f"store alone, ranges of {nbytes >> 10} KiB"
            yield Row(f"{what}: Gbit/s", found.gbit_s, 100.0)
            if nbytes >= 1 << 20:
                yield Row(f"{what}: CPU s per GB", found.cpu_s_per_gb, 0.6, less=True)


def _limit(work: Workload, samples: int) -> Iterator[Row]:
    """Yield what the network limit fetches, and whether twice the connections and threads fetch more."""
    found = plateau.measure(work, Rounds(samples=samples))
    for shape in found.shapes:
        if not shape.samples:
            raise MeasurementError(f"bodies {BODIES[shape.reader]}: {shape.na or shape.error}")
    for reader, bodies in BODIES.items():
        what = f"network limit, {_way(work)}, bodies {bodies}"
        rate, twice = found.of(reader)[0].figure("bodies_gbit_s"), found.doubled(reader)
        goal = 60.0 if work.target.is_encrypted else 90.0
        yield Row(f"{what}: Gbit/s", rate.median if rate else math.nan, goal if reader == THROWN_AWAY else None)
        yield Row(f"{what}: time with twice of all, over that", twice.median if twice else math.nan, 1 - GAIN)


def _readers(work: Workload, samples: int) -> Iterator[Row]:
    """Yield the rate of each reader, and by how much ours is ahead of the best of the others."""
    points = [Point(reader=reader, workload=work) for reader in (OURS, *PEERS)]
    took = {}
    for one in take(points, Rounds(samples=samples), label=work.label):
        if not one.samples:
            raise MeasurementError(f"{one.point.reader}: {one.na or one.error}")
        took[one.point.reader] = statistics.median(sample.seconds for sample in one.samples)
    for reader, seconds in took.items():
        goal = 60.0 if reader == OURS and not work.target.is_encrypted else None
        rate = work.array_bytes * 8e-9 / seconds
        yield Row(f"{reader}, {_way(work)}: Gbit/s of the final array", rate, goal)
    yield Row(f"{OURS}, {_way(work)}: rate over the next", min(took[peer] for peer in PEERS) / took[OURS], 1.0)


def _beside_plain_c(work: Workload) -> Row:
    """Return the limit's share of a C program that keeps the same ranges."""
    spans = list(wrk.spans(work))
    with tempfile.TemporaryDirectory() as folder:
        rate = wrk.plain_c(sendfile.compiled(Path(folder)), spans, work)
    ours = max(wrk.client(reader, work) for reader in limit_clients())
    return Row(
        f"network limit, plain, bodies kept: share of a plain C program's ({number(rate)} ranges/s)", ours / rate, 0.9
    )


def _way(work: Workload) -> str:
    return "TLS" if work.target.is_encrypted else "plain"


if __name__ == "__main__":
    main()

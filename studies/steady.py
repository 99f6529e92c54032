"""Streams of any length by every reader, and what memory they hold: a short stream beside a long one (docs/results.md).

``zcb store start --profile s3 --link-gbit-s 10``, ``zcb data create --target embedded --preset big --gib 32``, and ::

    zcb workload stream --target embedded --dataset big/large --gib 2 --seconds 0 -o short.json
    zcb workload stream --target embedded --dataset big/large --gib 64 --seconds 0 -o long.json
    python -m studies.steady short.json long.json --readers A,B

A reader has a fresh process for each workload, reads it once, and the network limit is not fetched beside it: many
times 64 GiB would say nothing of memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from harness.machine.log import show_progress
from harness.measure.rounds import Measured, Point, Rounds, take
from harness.readers import benchmarked
from harness.results.text import number
from harness.results.windows import quantiles
from harness.workload import files
from harness.workload.model import Workload

_MIB, _GIB = 2**20, 2**30
_TITLES = ("reader", "GiB read", "s", "Gbit/s of the final array", "of its steps: 5, 50, 95 %", "CPU s/GiB", "peak MiB")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--readers", default=",".join(benchmarked()), metavar="A,B", help="Who takes part (default: all).")
def main(paths: Sequence[Path], readers: str) -> None:
    """Print a Markdown table, a row for each reader and workload as soon as it is measured."""
    show_progress(lambda line: click.echo(line, err=True))
    works = [files.load(path) for path in paths]
    click.echo(f"| {' | '.join(_TITLES)} |\n|{'---|' * len(_TITLES)}")
    for reader in readers.split(","):
        for work in works:
            (found,) = take([Point(reader=reader, workload=work)], Rounds(samples=1), label=work.label)
            click.echo(f"| {' | '.join(_row(work, found))} |")


def _row(work: Workload, found: Measured) -> Iterator[str]:
    yield found.point.reader
    if not found.samples:
        yield found.na or found.error or "-"
        return
    (sample,) = found.samples
    yield number(sample.array_bytes / _GIB)
    yield number(sample.seconds)
    yield number(8e-9 * sample.array_bytes / sample.seconds)
    yield ", ".join(number(rate) for rate in quantiles(sample.windows or []).values())
    yield number(sample.cpu_seconds / (sample.array_bytes / _GIB))
    yield "-" if sample.peak_rss_bytes is None else number(sample.peak_rss_bytes / _MIB)


if __name__ == "__main__":
    main()

"""How often two processes of the same code would be told apart: why an answer from single processes demands more.

``zcb read zarr-python+fsspec,zarr-python+obstore w.json --samples 42 --sessions 7 --json > F``, then
``python -m studies.processes F ...``: a line for each workload, over all pairs of processes of each reader. A quick
`make bench` has one process of six samples for each version.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import click

from harness.results.answer import ONE_PROCESS, times
from harness.results.intervals import Interval, of_processes
from harness.results.sessions import by_session
from harness.results.text import number
from studies.reports import Report, load


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def processes(reports: tuple[Path, ...]) -> None:
    """Print how far medians of two processes are from each other, and how often their intervals share no value."""
    titles = ("workload", "pairs", "median", "nine of ten", "most", "apart", f"apart by over {ONE_PROCESS:.0%}")
    click.echo(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for path in reports:
        found = load(path)
        click.echo(f"| {found[0].label} | {' | '.join(_cells([pair for one in found for pair in _pairs(one)]))} |")


def _pairs(report: Report) -> Iterator[tuple[Interval, Interval]]:
    """Yield the seconds of every two processes of a reader, each with the interval over its own samples."""
    medians = (of_processes([[sample.seconds for sample in of]]) for of in by_session(report.samples))
    yield from itertools.combinations((one for one in medians if one is not None), 2)


def _cells(pairs: list[tuple[Interval, Interval]]) -> list[str]:
    sizes = [times(one.median / other.median) - 1 for one, other in pairs]
    ranks = (len(sizes) // 2, 9 * len(sizes) // 10, -1)
    return [
        str(len(sizes)),
        *(f"{number(100 * sorted(sizes)[rank])} %" for rank in ranks),
        *(str(sum(one.apart(other, by) for one, other in pairs)) for by in (1.0, 1 + ONE_PROCESS)),
    ]


if __name__ == "__main__":
    processes()

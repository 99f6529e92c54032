"""What a layer costs over the reader below it: ratios of the same rounds, from what ``zcb read --json`` printed.

``zcb read zarr-python+obstore,xarray,dask,icechunk w.json --samples 21 --sessions 7 --json > w.report.json``, then
``python -m studies.layers w.report.json --below zarr-python+obstore``: a table on stdout.
"""

import statistics
from pathlib import Path

import click

from harness.errors import BadUseError
from harness.results.sample import Sample
from harness.results.slower import same_rounds
from harness.results.text import number, times
from studies.reports import Report, load


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--below", required=True, metavar="READER", help="The reader that the others are held against.")
def layers(reports: tuple[Path, ...], below: str) -> None:
    """Print each reader's seconds, CPU seconds, requests and bytes over those of the reader below it."""
    columns = ("workload", "reader", "ms", "over " + below, "95 %", "CPU ms", "requests", "MiB fetched", "peak MiB")
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for path in reports:
        found = {one.reader: one for one in load(path)}
        if below not in found:
            raise BadUseError(f"{path} has no {below}: it has {', '.join(found)}")
        lines += [_line(one, found[below].samples) for one in found.values() if one.samples]
    click.echo("\n".join(lines))


def _line(report: Report, below: list[Sample]) -> str:
    samples = report.samples
    shown = (
        report.label,
        report.reader,
        number(1e3 * statistics.median(of.seconds for of in samples)),
        *_ratio(samples, below),
        number(1e3 * statistics.median(of.cpu_seconds for of in samples)),
        number(statistics.median(of.requests or 0 for of in samples)),
        number(statistics.median(of.fetched_bytes or 0 for of in samples) / 2**20),
        number(statistics.median(of.peak_rss_bytes or 0 for of in samples) / 2**20),
    )
    return f"| {' | '.join(shown)} |"


def _ratio(samples: list[Sample], below: list[Sample]) -> tuple[str, str]:
    """Return the ratio over the reader below in the rounds that both have, and its interval; empty for itself."""
    if samples is below:
        return "", ""
    ratio = same_rounds(samples, below)
    if ratio is None:
        return "-", ""
    return times(ratio.median), f"{times(ratio.low)} to {times(ratio.high)}" if ratio.sure else ""


if __name__ == "__main__":
    layers()

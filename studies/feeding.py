"""Whether an arm of a training loop, without a step, feeds as many samples as its reader reads crops.

``zcb store start --profile s3``, ``zcb data create --target embedded --preset demo``, then
``python -m studies.feeding --arms zarr-python+obstore,tensorstore,zarrs-planned``. Both read the same crops, as many at
the same time, with a cold index; they take turns. What differs is that the arm makes batches of float32 from them, one
after another, and that the loop's time begins when its first batch is there.
"""

import statistics
from collections.abc import Iterator

import click

from harness.errors import MeasurementError
from harness.machine.log import show_progress
from harness.measure.conductor import Conductor
from harness.measure.conductor import Plan as Reading
from harness.results.intervals import interval
from harness.results.text import number, times
from harness.targets.resolve import resolve
from harness.train.conductor import Fed, train
from harness.train.conductor import Plan as Feeding
from harness.workload import training as trainings
from harness.workload.model import Workload
from harness.workload.training import Training

_CLOSE = 0.05


@click.command()
@click.option("--target", default="embedded", show_default=True)
@click.option("--arms", default="zarr-python+obstore,tensorstore,zarrs-planned", show_default=True, metavar="A,B")
@click.option("--runs", type=click.IntRange(1, 1000), default=7, show_default=True)
@click.option("--batches", type=click.IntRange(2, 1000), default=48, show_default=True, help="Of 16 samples.")
def main(target: str, arms: str, runs: int, batches: int) -> None:
    """Show samples/s of each arm without a step over crops/s of its reader, run by run."""
    show_progress(lambda line: click.echo(line, err=True))
    training = trainings.create(resolve(target), ["small"], crop=(4, 128, 128), epochs=1, batches=batches)
    crops = training.workloads[0]
    click.echo("| arm | samples/s | crops/s | ratio | interval |\n|---|---|---|---|---|")
    for name in arms.split(","):
        pairs = list(_pairs(name, training, crops, runs))
        fed, read = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = interval(a / b for a, b in pairs)
        if ratio is None:
            raise MeasurementError(f"{name}: nothing was measured")
        span = f"{times(ratio.low)} to {times(ratio.high)}" if ratio.sure else "-"
        within = "" if abs(ratio.median - 1) <= _CLOSE else f", beyond {_CLOSE:.0%}"
        click.echo(f"| {name} | {number(fed)} | {number(read)} | {times(ratio.median)}{within} | {span} |")


def _pairs(name: str, training: Training, crops: Workload, runs: int) -> Iterator[tuple[float, float]]:
    """Yield samples/s of an arm, and crops/s of its reader, each in a fresh process."""
    for run in range(runs):
        (row,) = train(training, [name], Feeding(step_ms=0.0, feeds=False, seed=run))
        with Conductor([name], plan=Reading(samples=1, trials=1, seed=run)) as conductor:
            read = next(row for row in conductor.measure(crops) if row.reader == name)
        if reason := row.error or row.na or read.error or read.na:
            raise MeasurementError(f"{name}: {reason}")
        yield _rate(row), len(crops.reads) / read.samples[0].seconds


def _rate(row: Fed) -> float:
    return statistics.median(epoch.samples_per_second for epoch in row.unpaused)


if __name__ == "__main__":
    main()

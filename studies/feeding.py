"""Whether an arm of a training loop, without a step, feeds as many samples as its reader reads crops.

``zcb store start --profile s3``, ``zcb data create --target embedded --preset demo``, then
``python -m studies.feeding --arms zarr-python+obstore,tensorstore,zarrs-planned``. Both read the same crops, as many at
the same time, with a cold index; they take turns. What differs is that the arm makes batches of float32 from them, one
after another, and that the loop's time begins when what may have been ready with its first one is used up.
"""

import statistics
from collections.abc import Sequence

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
    names = arms.split(",")
    runs_of = [_fed_and_read(names, training, crops, run) for run in range(runs)]
    click.echo("| arm | samples/s | crops/s | ratio | interval |\n|---|---|---|---|---|")
    for name in names:
        fed, read = zip(*(run[name] for run in runs_of), strict=True)
        ratio = interval(a / b for a, b in zip(fed, read, strict=True))
        if ratio is None:
            raise MeasurementError(f"{name}: nothing was measured")
        span = f"{times(ratio.low)} to {times(ratio.high)}" if ratio.sure else "-"
        within = "" if abs(ratio.median - 1) <= _CLOSE else f", beyond {_CLOSE:.0%}"
        medians = [number(statistics.median(rates)) for rates in (fed, read)]
        click.echo(f"| {name} | {' | '.join(medians)} | {times(ratio.median)}{within} | {span} |")


def _fed_and_read(
    names: Sequence[str], training: Training, crops: Workload, run: int
) -> dict[str, tuple[float, float]]:
    """Return samples/s of each arm, and crops/s of its reader, each in a fresh process."""
    fed = {row.arm: row for row in train(training, names, Feeding(step_ms=0.0, feeds=False, seed=run))}
    with Conductor(names, plan=Reading(samples=1, trials=1, seed=run)) as conductor:
        read = {row.reader: row for row in conductor.measure(crops)}
    for name in names:
        if reason := fed[name].error or fed[name].na or read[name].error or read[name].na:
            raise MeasurementError(f"{name}: {reason}")
    return {name: (_rate(fed[name]), len(crops.reads) / read[name].samples[0].seconds) for name in names}


def _rate(row: Fed) -> float:
    return statistics.median(epoch.samples_per_second for epoch in row.unpaused)


if __name__ == "__main__":
    main()

"""``zcb train``: how many training steps a second an arm feeds."""

from collections.abc import Mapping
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.recorded import record_into
from harness.cli.values import ENV, FiniteRange, OutputFile, timeout_option
from harness.errors import BadUseError, MeasurementError, blamed, wrong_data_first
from harness.machine.environment import admit
from harness.machine.interrupts import shown_when_interrupted
from harness.measure.timelines import record_with_wire
from harness.results.text import number
from harness.targets.client import require
from harness.targets.timeouts import silence_allowed
from harness.timeline.model import check_replaceable
from harness.train import names as arms_by_name
from harness.train import report
from harness.train.accelerator import require_gpu
from harness.train.ceiling import ceiling_of
from harness.train.conductor import FED, Fed, Plan
from harness.train.conductor import train as measure
from harness.workload import training as trainings
from harness.workload.training import DEFAULT_STEP_MS, Training

_COLUMNS = {
    "sam-\nples/s": ("samples_per_second", 1.0),
    "with-\nout step": ("samples_per_second_without_step", 1.0),
    "busy\n%": ("utilisation", 100.0),
    "acce-\nlera-\ntors": ("accelerators_fed", 1.0),
    "first\nms": ("first_batch_seconds", 1e3),
    "wait\np99 ms": ("wait_p99_seconds", 1e3),
    "requ.\neach": ("requests_per_sample", 1.0),
    "CPU ms\neach": ("cpu_seconds_per_1000_samples", 1.0),
}
"""Headings -> the figure of an arm's report below them, and its factor. 80 columns hold them all."""

_GPU = "gpu"
_ARM_WIDTH = 20  # "zarr-python+obstore+", "fused" below


@click.command(epilog="Example: zcb train tr.json --arm zarr-python+obstore,tensorstore --step-ms 20")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option("--arm", "arms", required=True, metavar="ARM[,ARM]|all", help=f"From {', '.join(arms_by_name.names())}.")
@click.option(
    "--step",
    type=click.Choice(["pause", _GPU]),
    default="pause",
    show_default=True,
    help="What stands for an accelerator's step: a pause, or where torch sees a GPU a copy to it and a convolution.",
)
@click.option(
    "--step-ms",
    type=FiniteRange(min=0, max=60_000),
    help=f"How long the pause takes.  [default: {DEFAULT_STEP_MS:g}]",
)
@click.option(
    "--other-step-ms",
    "other_steps_ms",
    type=FiniteRange(min=0, min_open=True, max=60_000),
    multiple=True,
    help="Another step, of which each run has one more epoch; may be given several times. Shown by --json.",
)
@click.option("--runs", type=click.IntRange(1, 1000), default=1, show_default=True, help="Fresh processes of each arm.")
@click.option("--feed/--no-feed", default=True, help="Look for the shortest step that is fed, by bisection (default).")
@click.option(
    "--timeline",
    type=OutputFile(),
    help="Record the first batch into this file, by one arm that is a reader, and do nothing else.",
)
@timeout_option
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
def train(
    workload: Path,
    arms: str,
    step: str,
    step_ms: float | None,
    other_steps_ms: tuple[float, ...],
    runs: int,
    feed: bool,
    timeline: Path | None,
    timeout: float,
    env: tuple[str, ...],
    as_json: bool,
) -> None:
    """Let arms feed a training loop with the batches of a file that `zcb workload training` made.

    The loop waits for each batch and uses it for a step; every sample is compared with the truth afterwards.
    """
    asked = arms_by_name.names() if arms == "all" else arms.split(",")
    names = list(dict.fromkeys(arms_by_name.check(name.strip()) for name in asked))
    environment = admit(env)
    training = trainings.load(workload)
    click.get_current_context().with_resource(silence_allowed(timeout))
    for work in training.workloads:
        require(work.target, work.array.metadata_key)
    if timeline is not None:
        _record(names, training, timeline, environment)
        return
    plan = _plan(step == _GPU, step_ms, other_steps_ms, runs, feed)

    def show(rows: list[Fed]) -> None:
        if as_json:
            click.echo(report.report(training, rows, plan.step_ms, plan.device))
        else:
            _show(training, rows, plan)

    with shown_when_interrupted(show):
        rows = measure(training, names, plan, environment)
    if all(row.na is not None for row in rows):
        raise BadUseError("; ".join(f"{row.arm} cannot do this: {row.na}" for row in rows))
    failed = sorted((blamed(row.arm, row.error) for row in rows if row.error is not None), key=wrong_data_first)
    if failed and len(failed) == len(rows):
        raise MeasurementError("; ".join(failed))
    show(rows)
    if failed:
        raise MeasurementError("; ".join(failed))


def _record(names: list[str], training: Training, file: Path, environment: Mapping[str, str]) -> None:
    """Record the first batch by the one arm that is asked for."""
    if len(names) > 1 or names[0] not in arms_by_name.of_readers():
        raise BadUseError(f"a timeline is of one arm that is a reader: {', '.join(arms_by_name.of_readers())}")
    check_replaceable(file)
    batch = training.first_batch()
    record_into(file, names[0], lambda: [record_with_wire(names[0], batch, pairs=1, environment=environment)])


def _plan(on_gpu: bool, step_ms: float | None, others: tuple[float, ...], runs: int, feed: bool) -> Plan:
    """Return what to measure; a BadUseError says what of it does not go together."""
    if on_gpu:
        if step_ms is not None:
            raise BadUseError("--step-ms is a pause's: a step on a GPU takes what it takes")
        require_gpu()
        return Plan(step_ms=0.0, device="cuda", other_steps_ms=list(dict.fromkeys(others)), runs=runs, feeds=False)
    pause = DEFAULT_STEP_MS if step_ms is None else step_ms
    other_steps_ms = [other for other in dict.fromkeys(others) if other != pause]
    return Plan(step_ms=pause, other_steps_ms=other_steps_ms, runs=runs, feeds=feed and pause > 0)


def _show(training: Training, rows: list[Fed], plan: Plan) -> None:
    console = Console()
    step_ms = plan.step_ms
    step = f"step {step_ms:g} ms" if plan.device is None else "a step on the GPU"
    how = f"{training.index} index, {training.ahead} ahead, {step}"
    title = f"{training.label}, {how} at {training.target.identity}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    table.add_column("arm", min_width=_ARM_WIDTH, max_width=_ARM_WIDTH, overflow="fold")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right")
    for row in rows:
        found = report.arm(row, step_ms)
        values = [found[key] for key, _ in _COLUMNS.values()]
        shown = ["-" if v is None else number(v * f) for v, (_, f) in zip(values, _COLUMNS.values(), strict=True)]
        table.add_row(row.arm, *(shown if row.epochs else ["failed" if row.error else "n/a"]))
    console.print(table)
    for row in rows:
        if row.na is not None:
            console.print(f"{row.arm}: {row.na}")
        if report.keeps_data(row):
            console.print(
                f"{row.arm}: it keeps data: its last epoch fetched {report.kept_share(row):.0%} less per sample than "
                f"its first, and {report.reread_kept_share(row):.0%} less when the same samples were read again, "
                "without a step and for its accelerators",
                soft_wrap=True,
            )
    for row in rows:
        of_events = report.arm(row, step_ms)["utilisation_by_events"]
        if of_events is not None:
            console.print(f"{row.arm}: busy {of_events:.1%} by the GPU's own events")
    ceiling = ceiling_of(training)
    if ceiling is not None:
        console.print(
            f"Ceiling of the store's first byte, connections and link, without a step: {number(ceiling)} samples/s "
            "where each is fetched by itself.",
            soft_wrap=True,
        )
    console.print(
        f"accelerators: with this step, how many would be busy {FED:.0%} of the time. Every sample was compared with "
        "the truth.",
        soft_wrap=True,
    )

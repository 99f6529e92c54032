"""``zcb workload``: a pattern made concrete, as a file."""

from pathlib import Path
from typing import Any

import click

from harness.cli.lengths import Lengths
from harness.cli.values import FiniteRange, OutputFile, timeout_option, write_output
from harness.errors import BadUseError, unknown
from harness.machine.environment import admit
from harness.measure.agreement import agreed_truth
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.targets.timeouts import silence_allowed
from harness.workload import model as workloads
from harness.workload import training as trainings
from harness.workload.create import create_workload
from harness.workload.patterns import DEFAULT_CROPS, DEFAULT_CROPS_AT_ONCE, DEFAULT_HEADLINE_READS, PATTERNS, Parameters
from harness.workload.stream import DEFAULT_SECONDS, DEFAULT_WINDOW_MIB

_TRAINING = {
    "epochs": (trainings.DEFAULT_EPOCHS, "Epochs: each has other samples."),
    "batches": (trainings.DEFAULT_BATCHES, "Batches of an epoch."),
    "batch": (trainings.DEFAULT_BATCH, "Samples of a batch."),
    "ahead": (trainings.DEFAULT_AHEAD, "Batches that an arm may have under way beside the one that is wanted."),
}
"""Options of `training` alone: default, and what they are."""


def _known(name: str) -> str:
    """Return a pattern's name; a BadUseError lists the choices."""
    if name not in (choices := [*PATTERNS, trainings.PATTERN]):
        raise unknown("pattern", name, choices)
    return name


def _training_options(command: Any) -> Any:
    for name, (default, meaning) in reversed(_TRAINING.items()):
        command = click.option(f"--{name}", type=int, help=f"training: {meaning}  [default: {default}]")(command)
    return command


@click.command(
    help="Make a read pattern concrete for a dataset and write it as JSON.\n\nPATTERN is one of:\n\n\b\n"
    + "\n".join(f"{p.name:24}{p.question}" for p in PATTERNS.values())
    + f"\n{trainings.PATTERN:24}{trainings.QUESTION}",
    epilog="\b\nExamples:\n"
    "  zcb workload chunks_of_one_shard --target embedded --dataset small --gap 3 -o w.json\n"
    "  zcb workload random_crops --target embedded --crop 4x96x96 --crops 64 --seed 0 -o w.json\n"
    "  zcb workload stream --target embedded --dataset large --seconds 10 -o w.json\n"
    "  zcb workload whole_array --target https://host/path/array.zarr -o w.json\n"
    "  zcb workload random_crops --target https://host/path/group.zarr --array scale0/image -o w.json\n"
    "  zcb workload training --target embedded --dataset small --crop 4x128x128 -o tr.json",
)
@click.argument(
    "pattern",
    metavar="PATTERN",
    callback=lambda _, __, name: _known(name),
)
@click.option("--target", required=True, help="A name from targets.toml, or a URL: of data sets, or of one array.")
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    help="small, large, small-morton, ... or preset/name; by default the pattern's own. training takes two.",
)
@click.option("--array", "array", help="Path below the target's URL of an array without a manifest, e.g. in a group.")
@click.option("--gap", type=int, help="Stored chunks between two wanted ones of a shard.")
@click.option("--shards", type=int, help="Shards touched.")
@click.option("--chunks", type=int, help="Chunks wanted of each shard.")
@click.option("--crop", type=Lengths(), help="Elements per axis of a crop, e.g. 4x96x96; by default a chunk's.")
@click.option("--crops", type=int, help=f"How many crops are read; by default {DEFAULT_CROPS}.")
@click.option("--seed", type=int, help="Of the crops' positions; by default 0.")
@click.option("--reads", type=int, help=f"How often headline_3004 reads; by default {DEFAULT_HEADLINE_READS}.")
@click.option(
    "--concurrent-reads",
    type=int,
    help=f"Crops under way at once; by default {DEFAULT_CROPS_AT_ONCE}. Windows of a stream: 1 (default) or 2.",
)
@click.option("--gib", type=FiniteRange(min=0, min_open=True), help="GiB that a stream reads; by default the array.")
@click.option(
    "--window-mib",
    type=int,
    help=f"MiB of a stream's window, whole shards: by default {DEFAULT_WINDOW_MIB}, at least one row of them.",
)
@click.option(
    "--seconds",
    type=FiniteRange(min=0),
    help=f"What a stream lasts at least: it reads the same again. By default {DEFAULT_SECONDS:g}; 0 reads once.",
)
@click.option(
    "--in-flight",
    type=int,
    default=workloads.DEFAULT_IN_FLIGHT,
    show_default=True,
    help="Requests asked for.",
)
@_training_options
@click.option("--index", type=click.Choice(["cold", "warm"]), help="training: fetch shard indexes anew, or keep them.")
@timeout_option
@click.option("-o", "--output", required=True, type=OutputFile(), help="File to write.")
def workload(  # noqa: D103 - its help is computed from the patterns
    pattern: str,
    target: str,
    datasets: tuple[str, ...],
    array: str | None,
    in_flight: int,
    timeout: float,
    output: Path,
    **asked: Any,
) -> None:
    admit()
    click.get_current_context().with_resource(silence_allowed(timeout))
    given = {name: value for name, value in asked.items() if value is not None}
    if pattern == trainings.PATTERN:
        if array is not None:
            raise BadUseError(f"{pattern} reads data sets, or the array at a target's URL: it takes no --array")
        _write_training(resolve(target), datasets, in_flight, output, given)
        return
    if others := [name for name in given if name in (*_TRAINING, "index")]:
        raise BadUseError(f"--{others[0]} is an option of `zcb workload {trainings.PATTERN}`")
    if len(datasets) > 1:
        raise BadUseError(f"{pattern} reads one data set; {trainings.PATTERN} takes two")
    made = create_workload(
        pattern,
        resolve(target),
        dataset=next(iter(datasets), None),
        array=array,
        parameters=Parameters(**given),
        in_flight=in_flight,
        agree=agreed_truth,
    )
    write_output(output, workloads.encode(made))
    click.echo(f"{made.label}: {_size(made)} -> {output}", err=True)


def _write_training(
    target: Target, datasets: tuple[str, ...], in_flight: int, output: Path, given: dict[str, Any]
) -> None:
    """Draw the batches of a training loop and write them."""
    at_once = given.pop("concurrent_reads", DEFAULT_CROPS_AT_ONCE)
    known = (*_TRAINING, "index", "crop", "seed")
    if others := [name for name in given if name not in known]:
        raise BadUseError(f"{trainings.PATTERN} has no parameter {others[0]!r}")
    made = trainings.create(
        target, datasets or (None,), in_flight=in_flight, at_once=at_once, agree=agreed_truth, **given
    )
    write_output(output, trainings.encode(made))
    crops = len(made.workloads[0].reads)
    click.echo(f"{made.label}: {crops} samples, {made.tensor_bytes} bytes an epoch -> {output}", err=True)
    from harness.train.batches import lead_of, too_short  # loads what tensors take, which other workloads do without

    if (why := too_short(made, lead_of(made))) is not None:
        click.echo(f"zcb workload: arms of `zcb train` that read ahead will refuse it: {why} (--batches)", err=True)


def _size(made: workloads.Workload) -> str:
    """Return how much a workload asks for, in words."""
    gaps = sorted(set(made.gap_bytes))
    parts = [
        f"{made.wanted_chunks} chunks of {made.wanted_shards} {'shards' if made.array.is_sharded else 'objects'}",
        f"{made.wanted_bytes} bytes stored",
        f"{made.array_bytes} decoded",
    ]
    if gaps:
        parts.append(f"{gaps[0]}-{gaps[-1]} bytes between neighbours")
    if made.truth.agreed_by:
        parts.append(f"no manifest: the truth is what {' and '.join(made.truth.agreed_by)} agree on")
    if made.stream is not None:
        parts.insert(0, f"{made.windows} windows, {made.concurrent_reads} at once, {made.stream.loops} times")
    elif len(made.reads) > 1:
        parts.insert(0, f"{len(made.reads)} reads, {made.concurrent_reads} at once")
    return ", ".join(parts)

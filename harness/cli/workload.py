"""``zcb workload``: a pattern made concrete, as a file."""

from pathlib import Path
from typing import Any

import click

from harness.cli.lengths import Lengths
from harness.cli.values import OutputFile, timeout_option, write_output
from harness.machine.environment import admit
from harness.measure.agreement import agreed_truth
from harness.targets.resolve import resolve
from harness.targets.timeouts import silence_allowed
from harness.workload import model as workloads
from harness.workload.create import create_workload
from harness.workload.patterns import DEFAULT_CROPS, DEFAULT_CROPS_AT_ONCE, DEFAULT_HEADLINE_READS, PATTERNS, Parameters
from harness.workload.patterns import pattern as find_pattern


@click.command(
    help="Make a read pattern concrete for a dataset and write it as JSON.\n\nPATTERN is one of:\n\n\b\n"
    + "\n".join(f"{p.name:24}{p.question}" for p in PATTERNS.values()),
    epilog="\b\nExamples:\n"
    "  zcb workload chunks_of_one_shard --target embedded --dataset small --gap 3 -o w.json\n"
    "  zcb workload random_crops --target embedded --crop 4x96x96 --crops 64 --seed 0 -o w.json\n"
    "  zcb workload whole_array --target https://host/path/array.zarr -o w.json",
)
@click.argument("pattern", metavar="PATTERN", callback=lambda _, __, name: find_pattern(name).name)
@click.option("--target", required=True, help="A name from targets.toml, or a URL: of data sets, or of one array.")
@click.option("--dataset", help="small, large, small-morton, ... or preset/name; by default the pattern's own.")
@click.option("--gap", type=int, help="Stored chunks between two wanted ones of a shard.")
@click.option("--shards", type=int, help="Shards touched.")
@click.option("--chunks", type=int, help="Chunks wanted of each shard.")
@click.option("--crop", type=Lengths(), help="Elements per axis of a crop, e.g. 4x96x96; by default a chunk's.")
@click.option("--crops", type=int, help=f"How many crops are read; by default {DEFAULT_CROPS}.")
@click.option("--seed", type=int, help="Of the crops' positions; by default 0.")
@click.option("--reads", type=int, help=f"How often headline_3004 reads; by default {DEFAULT_HEADLINE_READS}.")
@click.option("--concurrent-reads", type=int, help=f"Crops under way at once; by default {DEFAULT_CROPS_AT_ONCE}.")
@click.option(
    "--in-flight",
    type=int,
    default=workloads.DEFAULT_IN_FLIGHT,
    show_default=True,
    help="Requests asked for.",
)
@timeout_option
@click.option("-o", "--output", required=True, type=OutputFile(), help="File to write.")
def workload(  # noqa: D103 - its help is computed from the patterns
    pattern: str,
    target: str,
    dataset: str | None,
    in_flight: int,
    timeout: float,
    output: Path,
    **asked: Any,
) -> None:
    admit()
    click.get_current_context().with_resource(silence_allowed(timeout))
    made = create_workload(
        pattern,
        resolve(target),
        dataset=dataset,
        parameters=Parameters(**asked),
        in_flight=in_flight,
        agree=agreed_truth,
    )
    write_output(output, workloads.encode(made))
    click.echo(f"{made.label}: {_size(made)} -> {output}", err=True)


def _size(made: workloads.Workload) -> str:
    """Return how much a workload asks for, in words."""
    gaps = sorted(set(made.gap_bytes))
    parts = [
        f"{made.wanted_chunks} chunks of {made.wanted_shards} shards",
        f"{made.wanted_bytes} bytes stored",
        f"{made.array_bytes} decoded",
    ]
    if gaps:
        parts.append(f"{gaps[0]}-{gaps[-1]} bytes between neighbours")
    if made.truth.agreed_by:
        parts.append(f"no manifest: the truth is what {' and '.join(made.truth.agreed_by)} agree on")
    if len(made.reads) > 1:
        parts.insert(0, f"{len(made.reads)} reads, {made.concurrent_reads} at once")
    return ", ".join(parts)

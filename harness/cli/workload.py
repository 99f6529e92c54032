"""``zcb workload``: a pattern made concrete, as a file."""

from pathlib import Path

import click

from harness import workload as workloads
from harness.paths import write_atomically
from harness.patterns import PATTERNS, Parameters
from harness.targets import resolve


@click.command(
    help="Make a read pattern concrete for a dataset and write it as JSON.\n\nPATTERN is one of:\n\n\b\n"
    + "\n".join(f"{p.name:24}{p.question}" for p in PATTERNS.values()),
    epilog="Example: zcb workload chunks_of_one_shard --target embedded --dataset small --gap 3 -o w.json",
)
@click.argument("pattern", metavar="PATTERN")
@click.option("--target", required=True, help="A name from targets.toml, or an s3:// URL.")
@click.option("--dataset", default="small", show_default=True, help="small, large, small-morton, ... or preset/name.")
@click.option("--gap", type=int, help="Stored chunks between two wanted ones of a shard.")
@click.option("--shards", type=int, help="Shards touched.")
@click.option("--chunks", type=int, help="Chunks wanted of each shard.")
@click.option(
    "--in-flight",
    type=int,
    default=workloads.DEFAULT_IN_FLIGHT,
    show_default=True,
    help="Requests asked for.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="File to write.")
def workload(  # noqa: D103 - its help is computed from the patterns
    pattern: str,
    target: str,
    dataset: str,
    gap: int | None,
    shards: int | None,
    chunks: int | None,
    in_flight: int,
    output: Path,
) -> None:
    made = workloads.create(
        pattern,
        resolve(target),
        dataset=dataset,
        parameters=Parameters(gap=gap, shards=shards, chunks=chunks),
        in_flight=in_flight,
    )
    write_atomically(output, workloads.encode(made))
    gaps = sorted(set(made.gap_bytes))
    between = f", {gaps[0]}-{gaps[-1]} bytes between neighbours" if gaps else ""
    click.echo(
        f"{made.label}: {made.wanted_chunks} chunks of {made.wanted_shards} shards, "
        f"{made.wanted_bytes} bytes stored, {made.array_bytes} decoded{between} -> {output}",
        err=True,
    )

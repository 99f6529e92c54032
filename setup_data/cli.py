"""``zcb data``: write data sets and verify them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import click
import msgspec
from click.core import ParameterSource
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from harness.cli.lengths import Lengths
from harness.cli.values import FiniteRange
from harness.datasets import manifest, places
from harness.datasets.array import ArrayInfo
from harness.datasets.manifest import CODECS, DTYPES, SUBCHUNK_ORDERS, DatasetSpec
from harness.errors import AnswerIsNoError, BadUseError, unknown
from harness.machine import memory
from harness.machine.cpu import cores
from harness.machine.environment import admit
from harness.results.text import number
from harness.targets.client import open_store, reaching
from harness.targets.resolve import resolve
from harness.targets.target import EMBEDDED, Target
from harness.targets.timeouts import silence_allowed
from harness.workload.patterns import Parameters
from setup_data import cluster, presets, repository, verify, workers, write
from setup_data.bucket import ensure_bucket

KINDS = ("icechunk",)
"""What a data set can be written as besides; a reader of it says so (`stored_as`)."""

_MIB = 1 << 20
_WRITING_SECONDS = 180.0


@click.group()
def data() -> None:
    """Write the data sets that are read, verify and list them."""
    admit()


@data.command(epilog="\b\nExample:\n  zcb data create --target embedded --preset demo")
@click.option("--target", "target_name", required=True, help="Where to write: a name in targets.toml or a URL.")
@click.option("--preset", help=f"A set of data sets: {', '.join(presets.NAMES)}.")
@click.option("--dataset", "names", multiple=True, help="Only this one of the preset; may be repeated.")
@click.option(
    "--gib", type=FiniteRange(min=0, min_open=True), help=f"Decoded GiB of preset {presets.SCALED}.  [default: 64]"
)
@click.option("--name", help="Instead of a preset: the name of an array of your own (preset custom).")
@click.option("--shape", type=Lengths(), help="Its elements per axis, e.g. 128,1024,1024.")
@click.option("--chunks", type=Lengths(), help="Elements per axis of an inner chunk.")
@click.option("--shards", type=Lengths(), help="Elements per axis of a shard, one stored object.")
@click.option("--dtype", type=click.Choice(DTYPES), default="uint16", show_default=True)
@click.option("--codec", type=click.Choice(CODECS), default="zstd", show_default=True)
@click.option("--order", type=click.Choice(SUBCHUNK_ORDERS), default="c", show_default=True, help="Of the chunks.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--in-flight", type=click.IntRange(1, 1000), default=write.IN_FLIGHT, show_default=True, help="Uploads at once."
)
@click.option("--dask", metavar="SCHEDULER", help="Spread the shards over a dask.distributed cluster (docs/data.md).")
@click.option("--as", "kind", type=click.Choice(KINDS), help="Also beside it, as a repository (docs/data.md).")
@click.option("--overwrite", is_flag=True, help="Replace what stands there.")
@click.option("--measure-put-rate", is_flag=True, help="Also measure bare PUTs of the same shards.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def create(
    target_name: str,
    preset: str | None,
    names: tuple[str, ...],
    gib: float | None,
    in_flight: int,
    dask: str | None,
    kind: str | None,
    overwrite: bool,
    measure_put_rate: bool,
    as_json: bool,
    **custom: str | int | tuple[int, ...] | None,
) -> None:
    """Write a preset's data sets, or one array of your own.

    Interrupted and started again, it goes on where it was; a finished data set is left alone.
    """
    _demand_own_array(preset)
    specs = _specs(preset, names, custom)
    if gib is not None:
        specs = [presets.scaled(spec, gib) for spec in specs]
    if dask is not None and measure_put_rate:
        raise BadUseError("--measure-put-rate measures this machine: leave it out with --dask")
    target = resolve(target_name)
    memory.keep_freed()
    ensure_bucket(target)
    # A cloud may refuse writes for minutes until it has made room for so many.
    click.get_current_context().with_resource(silence_allowed(_WRITING_SECONDS))
    store = write.open_to_write(target)
    reports = []
    with _spread(dask, target, in_flight) as storing:
        for spec in specs:
            with reaching(target), _progress(f"write {spec.key}", spec.nbytes) as advance:
                report = write.write(
                    store, spec, in_flight=in_flight, overwrite=overwrite, advance=advance, store_shards=storing(spec)
                )
            if measure_put_rate and report.write_mb_s:
                with reaching(target):
                    raw = write.measure_put_rate(store, spec, in_flight=in_flight)
                report.raw_put_mb_s, report.write_to_raw = raw, raw and report.write_mb_s / raw
            reports.append(report)
            if overwrite:
                repository.remove(store, spec)  # it holds what was replaced
            if kind is not None:
                with reaching(target), _progress(f"write {spec.key} as {kind}", spec.nbytes) as advance:
                    reports.append(repository.write(target, spec, advance=advance))
            if not as_json:
                for one in reports[-2 if kind else -1 :]:
                    click.echo(_line(one))
    if as_json:
        _echo_json(target, reports)


@data.command("verify", epilog="\b\nExample:\n  zcb data verify --target embedded --preset demo")
@click.option("--target", "target_name", required=True, help="Where they are: a name in targets.toml or a URL.")
@click.option("--preset", help="Only the data sets of this preset.")
@click.option("--dataset", "names", multiple=True, help="Only this one: NAME or PRESET/NAME; may be repeated.")
@click.option("--truth", is_flag=True, help="Recompute every chunk, not a sample of 256.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def verify_command(target_name: str, preset: str | None, names: tuple[str, ...], truth: bool, as_json: bool) -> None:
    """Verify data sets: every index and checksum, and a sample of chunks against the recomputed truth.

    Exit code 1 when they do not verify.
    """
    target = resolve(target_name)
    reports = []
    for key in _chosen(target, preset, names):
        expected = manifest.load(target, key)
        nbytes = expected.spec.nbytes
        with reaching(target), _progress(f"verify {expected.spec.key}", nbytes) as advance:
            report = verify.verify(open_store(target), expected, all_truth=truth, advance=advance)
        reports.append(report)
        if not as_json and report.ok:
            click.echo(
                f"{report.dataset} verifies: {report.chunks} chunks in {report.shards} shards, "
                f"{report.truth_chunks} compared with the truth, {report.seconds:.1f} s"
            )
    if as_json:
        _echo_json(target, reports)
    bad = [report.complaint() for report in reports if not report.ok]
    if bad:
        raise AnswerIsNoError("; ".join(bad))


@data.command("list", epilog="\b\nExample:\n  zcb data list --target embedded")
@click.option("--target", "target_name", default=EMBEDDED, show_default=True, help="A name in targets.toml or a URL.")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on stdout.")
def list_command(target_name: str, as_json: bool) -> None:
    """List the arrays at a target, with a manifest or without; those that cannot be measured, with the reason."""
    target = resolve(target_name)
    found = places.find_all(target)
    if as_json:
        _echo_json(target, [_as_plain(one) for one in found])
        return
    if not found:
        click.echo(f"zcb data: target {target.name} holds no arrays: write some with `zcb data create`", err=True)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("key", no_wrap=True)
    for heading in ("shape", "chunks", "shards", "type"):
        table.add_column(heading, overflow="fold")
    table.add_column("MiB", justify="right", no_wrap=True)
    table.add_column("mani-\nfest")
    for one in found:
        table.add_row(one.key, *_cells(one.array), "yes" if one.has_manifest else "no")
    console = Console(highlight=False)
    console.print(table)
    for one in found:
        if one.trouble:
            console.print(Text(f"{one.key}: {one.trouble}"))


def _cells(array: ArrayInfo | None) -> list[str]:
    if array is None:
        return ["-"] * 5
    shapes = [Parameters.text(shape) for shape in (array.shape, array.chunk_shape, array.shard_shape)]
    return [*shapes, array.dtype, number(array.nbytes / _MIB)]


def _as_plain(found: places.Found) -> dict[str, object]:
    array = found.array
    return {
        "key": found.key,
        "shape": array and array.shape,
        "chunk_shape": array and array.chunk_shape,
        "shard_shape": array and array.shard_shape,
        "dtype": array and array.dtype,
        "codec": array and array.codec,
        "decoded_bytes": array and array.nbytes,
        "has_manifest": found.has_manifest,
        "trouble": found.trouble,
    }


def _demand_own_array(preset: str | None) -> None:
    """Refuse options that a preset would not heed."""
    context = click.get_current_context()
    for option in ("dtype", "codec", "order", "seed") if preset is not None else ():
        if context.get_parameter_source(option) is not ParameterSource.DEFAULT:
            raise BadUseError(f"--preset and --{option} exclude each other: a preset has its own values")


def _specs(
    preset: str | None, names: tuple[str, ...], custom: dict[str, str | int | tuple[int, ...] | None]
) -> list[DatasetSpec]:
    shapes = {option: custom[option] for option in ("name", "shape", "chunks", "shards")}
    given = [f"--{option}" for option, value in shapes.items() if value is not None]
    missing = [f"--{option}" for option, value in shapes.items() if value is None]
    if preset is not None:
        if given:
            raise BadUseError(f"--preset and {given[0]} exclude each other: a preset has its own shapes")
        return presets.specs(preset, names)
    if names or not given:
        raise BadUseError("say what to write: --preset demo, or an array of your own by --name and --shape")
    if missing:
        raise BadUseError(f"an array of your own also needs {', '.join(missing)}")
    fields = {
        "name": custom["name"],
        "shape": custom["shape"],
        "chunk_shape": custom["chunks"],
        "shard_shape": custom["shards"],
        "dtype": custom["dtype"],
        "codec": custom["codec"],
        "subchunk_order": custom["order"],
        "seed": custom["seed"],
    }
    return [msgspec.convert({"preset": "custom", **fields}, DatasetSpec)]


def _chosen(target: Target, preset: str | None, names: tuple[str, ...]) -> list[str]:
    if preset is not None and preset not in manifest.PRESETS:
        raise unknown("preset", preset, manifest.PRESETS)
    if names:
        return [f"{preset}/{name}" if preset and "/" not in name else name for name in names]
    found = [key for key in manifest.datasets(target) if preset in (None, key.split("/")[0])]
    if not found:
        raise BadUseError(
            f"target {target.name} holds no datasets{f' of preset {preset}' if preset else ''}: "
            f"write them with `zcb data create --target {target.name} --preset {preset or presets.NAMES[1]}`"
        )
    return found


@contextlib.contextmanager
def _spread(
    dask: str | None, target: Target, in_flight: int
) -> Iterator[Callable[[DatasetSpec], write.StoreShards | None]]:
    """Connect to the cluster that shall store the shards; yields who stores a data set's, None for this process."""
    if dask is None:
        processes = workers.Workers(target, in_flight=in_flight).store_shards
        yield lambda spec: processes if spec.nbytes >= workers.LEAST_NBYTES and cores() > 1 else None
        return
    with cluster.Cluster(dask, target, in_flight=in_flight) as connected:
        yield lambda _: connected.store_shards


@contextlib.contextmanager
def _progress(what: str, nbytes: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with rate and time left on stderr; yields what advances it by decoded bytes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=nbytes)
        yield lambda done: progress.advance(task, done)


def _line(report: write.Report) -> str:
    if report.stored_bytes is None or report.seconds is None:
        return f"{report.dataset} {report.status}: {report.decoded_bytes / _MIB:.1f} MiB decoded"
    line = (
        f"{report.dataset} {report.status}: {report.decoded_bytes / _MIB:.1f} MiB decoded, "
        f"{report.stored_bytes / _MIB:.1f} MiB stored (ratio {report.ratio:.2f}), {report.seconds:.1f} s"
    )
    if report.skipped_shards:
        line += f", {report.skipped_shards} of {report.shards} shards were there"
    if report.write_mb_s is not None:
        line += f", {report.write_mb_s:.0f} MB/s ({report.write_mb_s * 8e-3:.2f} Gbit/s)"
    if report.raw_put_mb_s is not None:
        line += f" (bare PUTs {report.raw_put_mb_s:.0f} MB/s, so {report.write_to_raw:.2f} of them)"
    return line


def _echo_json(target: Target, reports: Sequence[object]) -> None:
    document = {"schema": 1, "target": target.identity, "datasets": reports}
    click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))

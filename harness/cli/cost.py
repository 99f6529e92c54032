"""``zcb cost``: what a run on a cloud's VM costs, before and after."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
import msgspec
from rich.console import Console
from rich.table import Table

from harness.cli.values import FiniteRange
from harness.cloud import metadata
from harness.cloud.cost import Expected, Spent, StoragePrice, VmPrice, expect, load_prices, spent
from harness.datasets import presets
from harness.errors import AnswerIsNoError, BadUseError, ZcbError, check_schema
from harness.results import records
from harness.results.records import PassRecord
from harness.results.sample import Sample
from harness.targets.resolve import resolve
from harness.targets.target import EMBEDDED

_HOURS = 3.0
_PRESET = "cloud"
_STORES = {"aws": "s3", "gcp": "gs"}
"""The store beside a cloud's VMs."""


class _Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Samples of one reader on one workload, from any kind of file."""

    reader: str
    workload: str
    target: str
    """The identity, or the URL."""
    samples: list[Sample]


class _Place(msgspec.Struct, frozen=True):
    url: str


class _Array(msgspec.Struct, frozen=True):
    key: str


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    pattern: str
    array: _Array
    target: _Place


class _Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of a report of `zcb read --json`."""

    schema: int
    reader: str
    workload: _Work
    samples: list[Sample]


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is printed of a reader on a workload."""

    reader: str
    workload: str
    target: str
    storage: str
    """Whose prices were taken."""
    samples: int
    dollars_per_tib: Spent | None
    """None where nobody counted the requests."""


@click.command(epilog="\b\nExamples:\n  zcb cost --vm c6in.32xlarge --preset cloud --hours 3\n  zcb cost report.json")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[REPORT|ASV_CONFIG]...")
@click.option("--vm", "kind", help="Type of the VM.  [default: that of this machine, asked of its metadata service]")
@click.option("--storage", "scheme", help="Whose requests are priced.  [default: the target's, or the VM's cloud's]")
@click.option("--preset", default=_PRESET, show_default=True, help="Before a run: the data sets that it writes.")
@click.option(
    "--hours",
    type=FiniteRange(0, 1000, min_open=True),
    default=_HOURS,
    show_default=True,
    help="Before a run: when the VM is shut down at the latest.",
)
@click.option("--at-most", type=FiniteRange(0), help="Before a run: exit with 1 when it may cost more dollars.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def cost(
    files: tuple[Path, ...],
    kind: str | None,
    scheme: str | None,
    preset: str,
    hours: float,
    at_most: float | None,
    as_json: bool,
) -> None:
    """Say what a run may cost; or, given results, what it cost to read a TiB.

    Results are reports of `zcb read --json`, or an asv configuration, which stands for its newest passes. Prices are
    those of cloud/prices.toml, which have a date: check them.
    """
    if files and at_most is not None:
        raise BadUseError("--at-most is for the time before a run: leave the files away")
    if files:
        vm = _vm(kind)
        rows = [_priced(measured, vm, scheme) for path in files for measured in _measured(path)]
        if not rows:
            raise BadUseError(f"no samples in {', '.join(map(str, files))}")
        _show_spent(rows, vm, as_json)
    else:
        vm = _vm(kind)
        storage = load_prices().of_storage(scheme or _STORES[vm.cloud])
        expected = expect(presets.specs(preset), hours, vm, storage)
        _show_expected(expected, preset, hours, vm, storage, as_json)
        if at_most is not None and expected.total > at_most:
            raise AnswerIsNoError(f"it may cost ${expected.total:.2f}, more than the ${at_most:.2f} that were allowed")


def _vm(kind: str | None) -> VmPrice:
    prices = load_prices()
    if kind is not None:
        return prices.of_vm(kind)
    vm = metadata.this_vm()
    if vm is None:
        raise BadUseError(f"this is no cloud's VM: say which is meant by --vm, e.g. --vm {prices.vm[0].type}")
    return prices.of_vm(vm.type)


def _priced(measured: _Measured, vm: VmPrice, scheme: str | None) -> _Row:
    storage = load_prices().of_storage(scheme or _scheme(measured.target))
    return _Row(
        reader=measured.reader,
        workload=measured.workload,
        target=measured.target,
        storage=storage.scheme,
        samples=len(measured.samples),
        dollars_per_tib=spent(measured.samples, vm, storage),
    )


def _scheme(target: str) -> str:
    """Return the scheme of a target; the embedded store stands for S3."""
    if "://" in target:
        return urlsplit(target).scheme
    if target.partition(":")[0] == EMBEDDED:
        return "s3"
    try:
        return urlsplit(resolve(target).url).scheme
    except ZcbError as error:
        raise BadUseError(f"whose prices? say it by --storage, e.g. --storage s3: {error}") from error


def _measured(path: Path) -> Iterator[_Measured]:
    """Yield what a file holds: a report, a list of them, or the newest passes of an asv configuration."""
    try:
        content = path.read_bytes()
        found = msgspec.json.decode(content)
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise BadUseError(f"{path} is not JSON: {error}") from error
    if isinstance(found, dict) and "results_dir" in found:
        yield from _of_passes(records.load(path))
        return
    given = found if isinstance(found, list) else [found]
    try:
        reports = msgspec.convert(given, list[_Report])
    except msgspec.ValidationError as error:
        raise BadUseError(f"{path} is no report of `zcb read --json` and no asv configuration: {error}") from error
    for one in given:
        check_schema(one, 1, path)
    for report in reports:
        work = report.workload
        if report.samples:
            yield _Measured(
                reader=report.reader,
                workload=f"{work.pattern} {work.array.key}",
                target=work.target.url if "://" in work.target.url else EMBEDDED,
                samples=report.samples,
            )


def _of_passes(passes: Sequence[PassRecord]) -> Iterator[_Measured]:
    """Yield the rows that have samples, of the newest pass of each version and pattern."""
    newest = {(one.variant, one.target, one.pattern): one for one in passes}
    for (variant, target, _), one in newest.items():
        for row in one.rows:
            if row.samples:
                yield _Measured(
                    reader=f"{row.reader} ({variant})", workload=row.label, target=target, samples=row.samples
                )


def _show_spent(rows: list[_Row], vm: VmPrice, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.encode({"schema": 1, "vm": vm, "rows": rows}).decode())
        return
    table = Table(title=f"Dollars per TiB of the array, on {vm.type} at ${vm.dollars_per_hour:g} an hour: medians")
    for heading in ("workload", "reader", "requests", "VM", "both"):
        table.add_column(heading, justify="left" if heading in ("workload", "reader") else "right")
    for row in sorted(rows, key=lambda row: (row.target, row.workload)):
        dollars = row.dollars_per_tib
        known = [f"{value:.4g}" for value in (dollars.requests, dollars.vm, dollars.total)] if dollars else ["-"] * 3
        table.add_row(row.workload, row.reader, *known)
    Console().print(table)
    _remind(vm.read.isoformat())


def _show_expected(
    expected: Expected, preset: str, hours: float, vm: VmPrice, storage: StoragePrice, as_json: bool
) -> None:
    if as_json:
        report = {"schema": 1, "preset": preset, "hours": hours, "vm": vm, "storage": storage, "expected": expected}
        click.echo(msgspec.json.encode(report).decode())
        return
    lines = {
        f"{vm.type} in {vm.region}, {hours:g} h at ${vm.dollars_per_hour:g}": expected.vm,
        f"{expected.put_requests} PUTs of preset {preset}": expected.puts,
        f"GETs, if the VM did nothing else ({storage.gets_per_second:g} a second)": expected.gets,
        f"one day of {expected.stored_gb:.0f} GB, less where they compress": expected.storage_per_day,
        "at most": expected.total,
    }
    table = Table(show_header=False, box=None)
    for what, dollars in lines.items():
        table.add_row(what, f"${dollars:.2f}")
    Console().print(table)
    click.echo(f"Storage goes on at ${expected.storage_per_day:.2f} a day until the data sets are deleted.")
    _remind(min(vm.read, storage.read).isoformat())


def _remind(date: str) -> None:
    click.echo(f"List prices as read on {date} (cloud/prices.toml): check them; traffic inside a region is free.")

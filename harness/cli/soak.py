"""``zcb soak``: mixed workloads for a long time, and whether anything grows, leaks or stays."""

import datetime

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.values import FiniteRange
from harness.errors import AnswerIsNoError, BadUseError
from harness.machine.environment import admit
from harness.measure import soak as soaking
from harness.measure.soak import Slope, Soak
from harness.paths import state_dir, write_atomically
from harness.readers import benchmarked, reader_class
from harness.targets.resolve import resolve
from harness.targets.target import EMBEDDED
from harness.workload import cases
from harness.workload.model import DEFAULT_IN_FLIGHT, MOST_IN_FLIGHT

_MIB = 1 << 20


@click.command(epilog="Example: zcb soak --minutes 30")
@click.option("--minutes", type=FiniteRange(min=0, max=100_000), default=30.0, show_default=True)
@click.option("--readers", default="all", show_default=True, metavar="A,B", help="Readers that take turns.")
@click.option("--in-flight", type=click.IntRange(1, MOST_IN_FLIGHT), default=DEFAULT_IN_FLIGHT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what was found, every reading included, as JSON.")
def soak(minutes: float, readers: str, in_flight: int, as_json: bool) -> None:
    """Read from the running embedded store for a long time; exit code 1 when memory, files or processes are left.

    The data sets are those of `zcb data create --target embedded --preset demo`, or of the preset in ZCB_PRESET.
    """
    admit()
    target = resolve(EMBEDDED)
    names = [reader_class(name.strip()).name for name in (benchmarked() if readers == "all" else readers.split(","))]
    if not names:
        raise BadUseError("--readers names none")
    cycle = cases.load().needed("soak")
    found = soaking.soak(target, names, cycle, seconds=minutes * 60, in_flight=in_flight)
    path = state_dir() / "soaks" / f"{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}.json"
    content = msgspec.json.encode(found)
    write_atomically(path, content + b"\n")
    if as_json:
        click.echo(content.decode())
    else:
        _show(found)
    _say(f"kept in {path}")
    if found.complaints:
        raise AnswerIsNoError("; ".join(found.complaints))


def _say(line: str) -> None:
    click.echo(f"zcb soak: {line}", err=True)


def _show(found: Soak) -> None:
    table = Table(
        title=f"{found.cycles} cycles, {found.samples} samples in {found.seconds / 60:.1f} minutes at {found.target}, "
        f"{found.in_flight} in flight",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    for heading in ("process", "memory MiB", "MiB an hour", "interval", "open files", "threads"):
        table.add_column(heading, justify="left" if heading == "process" else "right", overflow="fold")
    for each in found.processes:
        first, last = each.readings[0], each.readings[-1]
        table.add_row(
            each.name,
            f"{first.memory_bytes / _MIB:.0f} -> {last.memory_bytes / _MIB:.0f}",
            *_hourly(each.memory),
            f"{first.files} -> {last.files}",
            f"{first.threads} -> {last.threads}",
        )
    console = Console()
    console.print(table)
    console.print("flat" if not found.complaints else "NOT flat")


def _hourly(slope: Slope | None) -> tuple[str, str]:
    if slope is None:
        return "-", "too short to say"
    value, low, high = (x * 3600 / _MIB for x in (slope.value, slope.low, slope.high))
    return f"{value:+.1f}", f"[{low:+.1f}, {high:+.1f}]"

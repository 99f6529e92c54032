"""``zcb doctor``: what is missing for what, in words."""

import sys

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.datasets import presets
from harness.doctor import speed
from harness.doctor.checks import SERIOUS, Check
from harness.doctor.machine import can_bench, examine
from harness.doctor.speed import Speed
from harness.errors import StoreError, ZcbError
from harness.machine.environment import admit
from harness.machine.redact import redacted
from harness.targets.resolve import resolve

_UNREADABLE = "check the address, that the bucket is there, and that these credentials may list and read it"
_COLOURS = {"ok": "green", "warn": "yellow", "missing": "bold red", "wrong": "bold red"}


@click.command(epilog="\b\nExample:\n  zcb doctor --target s3://my-bucket/zarr-cloud-bench --preset cloud")
@click.option(
    "--target",
    help="Also look at this place: credentials, region, clock, the network between, and how fast it answers "
    f"(GETs of at most 300 MB, and of up to {speed.MOST_GB} GB where {speed.CONNECTIONS} connections do not fill the "
    "link).",
)
@click.option(
    "--preset", default="demo", show_default=True, help="The data sets that memory and disk must suffice for."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(target: str | None, preset: str, as_json: bool) -> None:
    """Say what is missing on this machine and for what; exit code 1 when a benchmark cannot run."""
    presets.specs(preset)
    if target:
        admit()
    checks = examine(target, preset)
    measured = None
    if target and _can_be_read(checks):
        answers, measured = _asked(target)
        checks.append(answers)
    fine = can_bench(checks)
    if as_json:
        report = {"schema": 1, "can_bench": fine, "checks": checks, "speed": measured}
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(checks)
        if target and measured:
            _show_speed(target, measured)
        what = f"A benchmark of {target}" if target else "`make bench`"
        click.echo(f"{what} can run." if fine else f"{what} cannot run: see what is missing or wrong above.")
    sys.exit(0 if fine else 1)


def _can_be_read(checks: list[Check]) -> bool:
    return all(check.verdict not in SERIOUS for check in checks if check.name in ("target", "credentials"))


def _asked(target: str) -> tuple[Check, Speed | None]:
    """Return whether a target answers, and how fast; None, with a line why, where that cannot be told."""
    measured = None
    row = Check(name="answers", verdict="ok", found="yes", needed_for="everything there")
    try:
        measured = speed.measure(resolve(target))
    except StoreError as error:
        row = msgspec.structs.replace(row, verdict="wrong", found=redacted(str(error)), cure=_UNREADABLE)
    except ZcbError as error:
        click.echo(f"zcb doctor: {target}: its speed was not measured: {redacted(str(error))}", err=True)
    return row, measured


def _show_speed(target: str, found: Speed) -> None:
    """Print what was measured of a target beside the embedded store's numbers, and how to start a store like it."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False)
    for heading in (f"How fast {target} answers", "measured", "embedded store, profile s3"):
        table.add_column(heading, overflow="fold")
    link = f"{speed.rounded(found.link_gbit_s):g} Gbit/s"
    rows = {
        "time to the first byte": (f"{speed.rounded(found.first_byte_ms):g} ms", f"{speed.S3.first_byte_ms:g} ms"),
        "one connection": (f"{speed.rounded(found.connection_mb_s):g} MB/s", f"{speed.S3.connection_mb_s:g} MB/s"),
        f"{found.connections} connections": (
            link if found.link_reached else f"at least {link}: the link was not reached",
            f"{speed.S3.link_gbit_s:g} Gbit/s",
        ),
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    console.print(table)
    console.print(Text(f"An embedded store like that: {found.start_command}\n"), soft_wrap=True)


def _show(checks: list[Check]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "verdict", "found", "needed for"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        verdict = f"[{_COLOURS[check.verdict]}]{check.verdict}[/]"
        table.add_row(check.name, verdict, escape(check.found), escape(check.needed_for))
    console = Console(highlight=False)
    console.print(table)
    cures = [f"  [bold]{check.name}[/]: {escape(check.cure)}" for check in checks if check.cure]
    if cures:
        console.print("\nWhat to do:", *cures, sep="\n")
    console.print()

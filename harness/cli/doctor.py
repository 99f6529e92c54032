"""``zcb doctor``: what is missing for what, in words."""

import sys

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.datasets import presets
from harness.doctor.checks import Check
from harness.doctor.machine import can_bench, examine

_COLOURS = {"ok": "green", "warn": "yellow", "missing": "bold red", "wrong": "bold red"}


@click.command(epilog="\b\nExample:\n  zcb doctor --target s3://my-bucket/zarr-cloud-bench --preset cloud")
@click.option("--target", help="Also look at this place: credentials, region, clock, the network between.")
@click.option(
    "--preset", default="demo", show_default=True, help="The data sets that memory and disk must suffice for."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(target: str | None, preset: str, as_json: bool) -> None:
    """Say what is missing on this machine and for what; exit code 1 when a benchmark cannot run."""
    presets.specs(preset)
    checks = examine(target, preset)
    fine = can_bench(checks)
    if as_json:
        report = {"schema": 1, "can_bench": fine, "checks": checks}
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(checks)
        what = f"A benchmark of {target}" if target else "`make bench`"
        click.echo(f"{what} can run." if fine else f"{what} cannot run: see what is missing or wrong above.")
    sys.exit(0 if fine else 1)


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

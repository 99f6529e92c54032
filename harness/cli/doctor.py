"""``zcb doctor``: what is missing for what, in words."""

import sys

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.doctor import Check, can_bench, examine

_COLOURS = {"ok": "green", "warn": "yellow", "missing": "bold red"}


@click.command(epilog="\b\nExample:\n  zcb doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Say what is missing on this machine and for what; exit code 1 when `make bench` cannot run."""
    checks = examine()
    fine = can_bench(checks)
    if as_json:
        report = {"schema": 1, "can_bench": fine, "checks": checks}
        click.echo(msgspec.json.encode(report).decode())
    else:
        _show(checks)
        click.echo("`make bench` can run." if fine else "`make bench` cannot run: see what is missing above.")
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

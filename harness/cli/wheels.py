"""``zcb wheels``: the zarr builds of asv.matrix.conf.json."""

from pathlib import Path

import click

from harness.asv import wheels as zarr_wheels
from harness.paths import state_dir


@click.command(epilog="Example: zcb wheels --repo ../zarr-python")
@click.option("--repo", required=True, type=click.Path(path_type=Path), help="Local clone of zarr-python.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder (default: in the state directory).")
def wheels(repo: Path, output: Path | None) -> None:
    """Build the commits of wheels.toml, #3004's merge base and head among them, as wheels for asv."""
    folder = output or state_dir() / "wheels"
    for wheel in zarr_wheels.build(repo, folder):
        click.echo(wheel)
    click.echo(
        f"zcb wheels: now PIP_FIND_LINKS={folder.resolve()} asv run --config asv.matrix.conf.json HEAD^!", err=True
    )

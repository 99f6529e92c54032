"""``zcb history``: the releases of zarr as a git repository for asv."""

from pathlib import Path

import click

from harness.asv import history as releases_as_git


@click.command(epilog="\b\nExample:\n  zcb history --releases 3.2.1,3.3.0,latest -o .asv/releases.git")
@click.option("--releases", required=True, metavar="V,V,...", help="Versions of zarr; latest is the newest one.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The repository to write.")
def history(releases: str, output: Path) -> None:
    """Write the releases of zarr as a git repository that asv can walk.

    One commit and tag per release; the same releases give the same commit hashes. Releases that the
    repository holds already stay, and are not fetched again.
    """
    names = [name.strip() for name in releases.split(",") if name.strip()]
    held = releases_as_git.build(output, names)
    click.echo(f"{output}: {', '.join(f'v{release.version}' for release in held)}")

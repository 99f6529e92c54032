"""``zcb cloud``: steps of a run on a cloud's VM that cloud/run.sh puts together."""

import os
from pathlib import Path

import click

from harness.asv import configurations as asv_config
from harness.cli.values import OutputFile
from harness.cloud import home as home_steps
from harness.errors import BadUseError


@click.group()
def cloud() -> None:
    """Take single steps of a run on a cloud's VM; cloud/run.sh puts them together (docs/cloud.md)."""


@cloud.command(epilog="\b\nExample:\n  ZCB_TARGET=s3://b/p ZCB_PRESET=demo zcb cloud config asv.conf.json -o c.json")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=OutputFile(), help="The configuration to write.")
def config(source: Path, output: Path) -> None:
    """Write the asv configuration SOURCE for the target and preset in ZCB_TARGET and ZCB_PRESET."""
    asked = {name: os.environ.get(name) for name in ("ZCB_TARGET", "ZCB_PRESET")}
    missing = [name for name, value in asked.items() if not value]
    if missing:
        raise BadUseError(f"set {' and '.join(missing)}: that is what tells the new configuration's results apart")
    target, preset = (str(value) for value in asked.values())
    asv_config.for_target(source, output, target=target, preset=preset)
    click.echo(str(output))


@cloud.command(epilog="\b\nExample:\n  zcb cloud home s3://my-bucket/home/today results html")
@click.argument("destination")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def home(destination: str, paths: tuple[Path, ...]) -> None:
    """Copy files and folders to DESTINATION, a folder or a place in an object store; what is missing is left out."""
    names = home_steps.bring_home(destination, paths)
    click.echo(f"{destination}: {len(names)} files")

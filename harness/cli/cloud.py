"""``zcb cloud``: steps of a run on a cloud's VM that cloud/run.sh puts together."""

import os
from pathlib import Path

import click

from harness.asv import configurations as asv_config
from harness.cli.values import FiniteRange, OutputFile
from harness.cloud import home as home_steps
from harness.errors import AnswerIsNoError, BadUseError


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


@cloud.command(epilog="\b\nExample:\n  ZCB_SAMPLES=21 ZCB_WORKLOAD_SECONDS=20 zcb cloud hours 3.2.1,latest --at-most 4")
@click.argument("releases", metavar="V,V,...")
@click.option("--at-most", type=FiniteRange(0, min_open=True), help="Exit with 1 when it takes more hours.")
def hours(releases: str, at_most: float | None) -> None:
    """Say how long asv takes for releases of zarr, by ZCB_SAMPLES, ZCB_SESSIONS, ZCB_WORKLOAD_SECONDS and ZCB_GRID.

    It is what two cores took with the embedded store's 20 ms to the first byte, every case and reader included.
    """
    from harness.asv import main_job  # slow to import

    asked = main_job.asked_of_asv(releases.split(","), os.environ)
    took = sum(release.seconds for release in asked) / 3600
    said = f"asv: about {took:.1f} hours for {len(asked)} x {len(asked[0].cases())} cases"
    if at_most is not None and took > at_most:
        raise AnswerIsNoError(f"{said}, more than the {at_most:g} that it may take: docs/cloud.md says what takes less")
    click.echo(said)


@cloud.command(epilog="\b\nExample:\n  zcb cloud home s3://my-bucket/home/today results html")
@click.argument("destination")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
def home(destination: str, paths: tuple[Path, ...]) -> None:
    """Copy files and folders to DESTINATION, a folder or a place in an object store; what is missing is left out."""
    names = home_steps.bring_home(destination, paths)
    click.echo(f"{destination}: {len(names)} files")

"""``zcb netns``: a network of one's own, in which ``--link veth`` needs no root."""

import os
import shutil
import sys

import click

from harness.errors import BadUseError


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog='\b\nExample:\n  zcb netns -- sh -c "zcb store start --link veth && zcb read zarrs w.json; zcb store stop"',
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def netns(command: tuple[str, ...]) -> None:
    """Run COMMAND in a user and network namespace of its own, where it may make virtual networks.

    Store and readers have to run in the same one, so put it around all of a measurement; no other network is
    reachable inside.
    """
    if shutil.which(command[0]) is None:
        raise BadUseError(f"there is no command {command[0]!r}")
    inside = [sys.executable, "-m", "harness.machine.own_network", *command]
    os.execv(inside[0], inside)  # noqa: S606 - an argument list, no shell

"""The ``zcb`` command: one module per command, one way to fail."""

import sys
from importlib.metadata import entry_points
from typing import NoReturn

import click

from harness.cli import (
    cloud,
    compare,
    cost,
    doctor,
    history,
    netns,
    read,
    soak,
    store,
    table,
    timeline,
    wheels,
    workload,
)
from harness.errors import BadUseError, ZcbError
from harness.machine.exit import run_then_exit
from harness.machine.log import show_progress
from harness.machine.redact import redacted

_INTERRUPTED = 130
_LONGEST = 500


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def zcb(context: click.Context, debug: bool) -> None:
    """Measure how fast Zarr readers read sharded arrays from object storage."""
    show_progress(lambda line: click.echo(f"zcb {context.invoked_subcommand}: {line}", err=True))


zcb.add_command(doctor.doctor)
zcb.add_command(store.store)
zcb.add_command(history.history)
zcb.add_command(workload.workload)
zcb.add_command(read.read)
zcb.add_command(table.table)
zcb.add_command(timeline.timeline)
zcb.add_command(wheels.wheels)
zcb.add_command(compare.compare)
zcb.add_command(compare.pr)
zcb.add_command(netns.netns)
zcb.add_command(cost.cost)
zcb.add_command(cloud.cloud)
zcb.add_command(soak.soak)


def command() -> NoReturn:
    """Run ``zcb`` as a process of its own."""
    run_then_exit(main)


def main() -> None:
    """Run ``zcb``: errors are one line on stderr, exit codes are those of docs/commands.md."""
    _add_commands_of_other_packages()
    debug = "--debug" in sys.argv[1:2]
    try:
        sys.exit(zcb.main(standalone_mode=False) or 0)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", _INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except ZcbError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except Exception as error:  # the last resort: no traceback unless asked for
        if debug:
            raise
        _fail(f"unexpected {type(error).__name__}: {error} (`zcb --debug` shows where)", 4)


def _add_commands_of_other_packages() -> None:
    for point in entry_points(group="zcb.commands"):
        zcb.add_command(point.load(), point.name)


def _fail(message: str, code: int) -> None:
    line = redacted(" ".join(message.split()))
    if code == BadUseError.exit_code and len(line) > _LONGEST:  # it repeats something absurd that was asked for
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    click.echo(f"zcb: {line}", err=True)
    sys.exit(code)

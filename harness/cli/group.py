"""The group of all commands, and what becomes of their errors."""

import importlib
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import click

from harness.cli.output import ReaderGoneError
from harness.errors import BadUseError, ZcbError
from harness.machine import interrupts
from harness.machine.log import show_progress
from harness.machine.redact import redacted
from harness.paths import state_dir
from harness.targets.timeouts import silence_allowed

_LONGEST = 500


_COMMANDS = {
    "answer": "answer",
    "bench": "bench",
    "cloud": "cloud",
    "compare": "compare",
    "cost": "cost",
    "crates": "crates",
    "doctor": "doctor",
    "history": "history",
    "limit": "limit",
    "netns": "netns",
    "pr": "compare",
    "project": "project",
    "read": "read",
    "soak": "soak",
    "store": "store",
    "sweep": "sweep",
    "table": "table",
    "timeline": "timeline",
    "train": "train",
    "tune": "tune",
    "watch": "watch",
    "wheels": "wheels",
    "workload": "workload",
}
"""Command -> module beside this one in which a function of the command's name is the command."""


class _Commands(click.Group):
    """Imports a command when it is asked for: all of them together take most of a second.

    Packages that stand above harness have theirs as entry points of the group ``zcb.commands``.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in order."""
        return sorted({*_COMMANDS, *entry_points(group="zcb.commands").names, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or None where there is no such one."""
        if cmd_name in _COMMANDS:
            module = importlib.import_module(f"{__package__}.{_COMMANDS[cmd_name]}")
            found: click.Command = getattr(module, cmd_name)
            return found
        for point in entry_points(group="zcb.commands", name=cmd_name):
            return point.load()  # type: ignore[no-any-return]
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; for KeyboardInterrupt click itself would print an empty line first."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise click.Abort from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def zcb(context: click.Context, debug: bool) -> None:
    """Measure how fast Zarr readers read sharded arrays from object storage."""
    interrupts.let_clean_up()
    context.with_resource(silence_allowed())
    show_progress(lambda line: click.echo(f"zcb {context.invoked_subcommand}: {line}", err=True))


def main() -> None:
    """Run ``zcb``: errors are one line on stderr, exit codes are those of docs/commands.md."""
    debug = "--debug" in sys.argv[1:2]
    try:
        sys.exit(_run())
    except (click.exceptions.Abort, KeyboardInterrupt):
        interrupts.end_at_once()  # whoever presses it again wants no traceback of this
        _fail("interrupted", interrupts.EXIT_CODE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(2)
    except ReaderGoneError as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message(), error.exit_code)
    except Exception as error:  # the last resort: no traceback unless asked for
        if debug:
            click.echo(redacted(traceback.format_exc()), err=True)
        _fail(*_told(error))


def _run() -> Any:
    """Run the command that was asked for and return its exit code, when all that it printed is out."""
    try:
        code = zcb.main(standalone_mode=False) or 0
    except SystemExit as end:
        code = end.code
    if sys.stdout is not None:
        sys.stdout.flush()
    return code


def _told(error: Exception) -> tuple[str, int]:
    """Return the line that tells of an error, and its exit code."""
    if isinstance(error, ZcbError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        kept = Path(str(error.filename)).is_relative_to(state_dir())
        cure = "; ZCB_STATE_DIR names another folder for what runs keep" if kept else ""
        return f"cannot use {error.filename}: {error.strerror}{cure}", BadUseError.exit_code
    return f"unexpected {type(error).__name__}: {error} (`zcb --debug` shows where)", 4


def _fail(message: str, code: int) -> None:
    line = redacted(" ".join(message.split()))
    if code == BadUseError.exit_code and len(line) > _LONGEST:  # it repeats something absurd that was asked for
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    click.echo(f"zcb: {line}", err=True)
    sys.exit(code)

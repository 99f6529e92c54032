"""The ``zcb`` command: one module per command, one way to fail."""

import contextlib
import importlib
import select
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any, NoReturn

import click

from harness.errors import BadUseError, ZcbError
from harness.machine.exit import run_then_exit
from harness.machine.log import show_progress
from harness.machine.redact import redacted

_INTERRUPTED = 130
_READER_GONE = 141
"""What a shell says of a program that the end of its pipe ended: 128 and SIGPIPE."""
_LONGEST = 500


_COMMANDS = {
    "answer": "answer",
    "bench": "bench",
    "cloud": "cloud",
    "compare": "compare",
    "cost": "cost",
    "doctor": "doctor",
    "history": "history",
    "netns": "netns",
    "pr": "compare",
    "read": "read",
    "soak": "soak",
    "store": "store",
    "table": "table",
    "timeline": "timeline",
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
            module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name]}")
            found: click.Command = getattr(module, cmd_name)
            return found
        for point in entry_points(group="zcb.commands", name=cmd_name):
            return point.load()  # type: ignore[no-any-return]
        return super().get_command(ctx, cmd_name)

    def make_context(self, *arguments: Any, **extra: Any) -> click.Context:
        """Read the arguments; `--help` prints here."""
        with _unread_output():
            return super().make_context(*arguments, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _unread_output():
            return super().invoke(ctx)


@contextlib.contextmanager
def _unread_output() -> Iterator[None]:
    """End without a word where nobody reads what the block prints any more, as after `| head`.

    click and rich would end with 1, which here means that the answer is no.
    """
    try:
        yield
    except BrokenPipeError as error:
        if _somebody_reads():
            raise ConnectionError(str(error)) from error  # another pipe; click takes each for the output's
        sys.exit(_READER_GONE)
    except SystemExit as end:
        sys.exit(_READER_GONE if isinstance(end.__context__, BrokenPipeError) else end.code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_context
def zcb(context: click.Context, debug: bool) -> None:
    """Measure how fast Zarr readers read sharded arrays from object storage."""
    show_progress(lambda line: click.echo(f"zcb {context.invoked_subcommand}: {line}", err=True))


def command() -> NoReturn:
    """Run ``zcb`` as a process of its own."""
    run_then_exit(main)


def main() -> None:
    """Run ``zcb``: errors are one line on stderr, exit codes are those of docs/commands.md."""
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


def _somebody_reads() -> bool:
    """Whether both outputs still have somebody at their other end."""
    outputs = select.poll()
    for stream in (sys.stdout, sys.stderr):
        outputs.register(stream.fileno(), 0)
    return not any(events & select.POLLERR for _, events in outputs.poll(0))


def _fail(message: str, code: int) -> None:
    line = redacted(" ".join(message.split()))
    if code == BadUseError.exit_code and len(line) > _LONGEST:  # it repeats something absurd that was asked for
        line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
    click.echo(f"zcb: {line}", err=True)
    sys.exit(code)

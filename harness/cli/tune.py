"""``zcb tune``: the best public settings of a reader on a workload, kept for its ``+tuned`` row."""

from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.output import pretty
from harness.cli.rounds import opened
from harness.cli.values import ENV, FiniteRange, timeout_option
from harness.errors import BadUseError, UnsupportedError
from harness.machine.environment import admit
from harness.measure.tuning import DEFAULT_SECONDS, PAIRS, Search
from harness.readers import reader_class, tuned
from harness.readers.settings import TUNED, in_words
from harness.readers.tunings import Trial, Tuning, keep
from harness.results.text import cores_in_words

SCHEMA = 1


@click.command(epilog="Example: zcb tune zarrs w.json --seconds 300")
@click.argument("reader")
@click.argument("workload", type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=FiniteRange(min=0),
    default=DEFAULT_SECONDS,
    show_default=True,
    help="No candidate is tried any more after so long.",
)
@timeout_option
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print what was found, the whole search included, as JSON.")
def tune(reader: str, workload: Path, seconds: float, timeout: float, env: tuple[str, ...], as_json: bool) -> None:
    """Search READER's settings for the fastest on a workload file, and keep them in tunings.toml.

    They hold for READER+tuned on the workload's target, pattern, data set and requests in flight.
    """
    named = reader_class(reader.removesuffix(TUNED))
    tuned(named)  # says whether there is anything to set
    environment = admit(env)
    loaded = opened(workload, timeout)
    try:
        with Search(named, loaded, seconds=seconds, environment=environment) as search:
            found = search.run()
    except UnsupportedError as reason:
        raise BadUseError(f"{named.name} cannot do this workload: {reason}") from reason
    file = keep(found)
    if as_json:
        click.echo(pretty({"schema": SCHEMA, **msgspec.to_builtins(found)}))
    else:
        _show(found)
    click.echo(f"zcb tune: kept in {file}", err=True)


def _show(found: Tuning) -> None:
    given = f"{found.in_flight} in flight, {cores_in_words(found.cores)}"
    title = f"{found.reader}: {found.workload} at {found.target}, {given}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("candidate", "beside", "time", "pairs", "outcome"):
        table.add_column(heading, justify="right" if heading in ("time", "pairs") else "left", overflow="fold")
    for trial in found.trials:
        table.add_row(*_settings(trial), *_figures(trial), trial.reason or trial.outcome)
    console = Console(highlight=False)
    console.print(table, markup=False)
    click.echo(_answer(found))


def _settings(trial: Trial) -> tuple[str, str]:
    """Return what a candidate changes, and the settings beside it, which what it is held against has too."""
    same = {name: value for name, value in trial.settings.items() if trial.against.get(name) == value}
    changed = {name: value for name, value in trial.settings.items() if name not in same}
    gone = [
        f"not {in_words({name: value})}" if name in changed else f"without {name}"
        for name, value in trial.against.items()
        if name not in same
    ]
    return ", ".join([*([in_words(changed)] if changed else []), *gone]), in_words(same)


def _figures(trial: Trial) -> tuple[str, str]:
    return "-" if trial.ratio is None else f"{trial.ratio:.3f}x", f"{len(trial.seconds)} of {PAIRS}"


def _answer(found: Tuning) -> str:
    """Return the last line, which says what was found."""
    tried = f"{len(found.trials)} trials" + ("" if found.complete else ", not all that there are: the time was up")
    if found.ratio is None:
        return f"{found.reader}: nothing is better than what its documentation tells ({tried})"
    took = f"{found.ratio:.2f} of the time [{found.low:.2f}, {found.high:.2f}] of what its documentation tells"
    return f"{found.reader}{TUNED}: {in_words(found.settings)}: {took} ({tried})"

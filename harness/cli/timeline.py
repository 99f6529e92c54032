"""``zcb timeline``: a recording drawn."""

import sys
from collections.abc import Callable
from pathlib import Path

import click

from harness.cli.values import OutputFile, write_output
from harness.errors import BadUseError
from harness.timeline.model import Timeline, load
from harness.timeline.pictures import ascii_picture, html_page, perfetto_trace, svg_picture
from harness.timeline.schedule.analysis import best_schedule
from harness.timeline.validity import contradiction

_ONE: dict[str, Callable[[Timeline], bytes]] = {
    "ascii": lambda timeline: ascii_picture(timeline).encode() + b"\n",
    "svg": lambda timeline: svg_picture(timeline).encode(),
    "perfetto": perfetto_trace,
}
"""The formats that show one timeline; a page shows several above each other."""


@click.command(
    epilog="\b\nExamples:\n  zcb timeline t.json\n  zcb timeline before.json after.json --format html -o page.html"
)
@click.argument("files", metavar="TIMELINE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice([*_ONE, "html"]),
    default="ascii",
    show_default=True,
    help="A terminal's picture, a picture for a README, a trace for ui.perfetto.dev, or a page.",
)
@click.option("--optimum", is_flag=True, help="Draw the optimal schedule of the same requests instead.")
@click.option("-o", "--output", type=OutputFile(), help="File to write; by default stdout.")
def timeline(files: tuple[Path, ...], form: str, optimum: bool, output: Path | None) -> None:
    """Draw a timeline that `zcb read --timeline` recorded: where the time of each chunk went.

    The page holds several, above each other on the same axis.
    """
    if form != "html" and len(files) > 1:
        raise BadUseError(f"{form} draws one timeline: name one file, or take --format html")
    if output is not None and output.exists() and any(file.exists() and output.samefile(file) for file in files):
        raise BadUseError(f"{str(output)[:200]!r} is the timeline to draw: name another file by -o")
    loaded = [_loaded(file) for file in files]
    shown = [best_schedule(one) for one in loaded] if optimum else loaded
    drawn = html_page(shown).encode() if form == "html" else _ONE[form](shown[0])
    if output is None:
        sys.stdout.buffer.write(drawn)
        return
    write_output(output, drawn)


def _loaded(file: Path) -> Timeline:
    """Return a timeline; one that contradicts itself is refused, unless it says itself that it is not valid."""
    found = load(file)
    if why := contradiction(found):
        raise BadUseError(
            f"{file} is not what was recorded: {why}; record it again by `zcb read READER w.json --timeline`"
        )
    return found

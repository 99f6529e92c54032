"""``zcb answer``: what was found, in at most ten lines, and where the pages are."""

import textwrap
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.text import Text

from harness import site
from harness.cli.output import pretty
from harness.cli.values import OutputFile, default_config, write_output
from harness.readers import under_test
from harness.results import answer as answers
from harness.results import cells, records
from harness.results.answer_lines import Line, lines
from harness.site import chart

_STYLES = {"failed": "bold red", "slower": "bold yellow", "faster": "bold blue", "drift": "yellow"}
_MARKS = {"failed": "x", "slower": "-", "faster": "+", "undecided": "?", "drift": "!"}
"""What a line begins with; any other one with a star."""


@click.command(epilog="Example: zcb answer --svg docs/pictures/readers.svg")
@click.option("--target", help="Where was read from, e.g. embedded:s3 (default: where was measured last).")
@click.option("--svg", "svg_file", type=OutputFile(), help="Also write readers against the network limit as a picture.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: every finding, and the lines.")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="asv configuration whose results are told of (default: the releases).",
)
def answer(target: str | None, svg_file: Path | None, as_json: bool, config: Path | None) -> None:
    """Say what got faster or slower for sure, how far the network limit is, and what is undecided."""
    chosen = config or default_config()
    passes = cells.at_one_place(records.load(chosen), target)
    said = answers.answer(passes, under_test())
    told = lines(said)
    pages = _pages(chosen.parent / records.configuration(chosen).html_dir)
    if svg_file is not None:
        shown = chart.chosen(chart.panels(passes, under_test()))
        write_output(svg_file, chart.svg(shown, title=chart.title(said), name="readers").encode())
    if as_json:
        whole = {"schema": 1, **msgspec.to_builtins(said), "lines": told, "pages": [str(page) for page in pages]}
        click.echo(pretty(whole))
        return
    console = Console(highlight=False)
    console.print(Text(f"{', '.join(said.versions)}, read from {said.place}", style="bold"))
    for line in told:
        console.print(_drawn(line, console.width), soft_wrap=True)
    for page in pages:
        console.print(Text(str(page)), soft_wrap=True)


def _pages(folder: Path) -> list[Path]:
    return [path for name in (*(page.file for page in site.PAGES), site.GRAPHS) if (path := folder / name).is_file()]


def _drawn(line: Line, width: int) -> Text:
    """Return a line in rows that fit; those of a command are one for a shell."""
    mark = _MARKS.get(line.kind, "*")
    if line.kind == "command":
        return Text("  " + line.text.replace(" --", " \\\n    --"))
    rows = textwrap.fill(
        line.text,
        width,
        initial_indent=f"{mark} ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    style = _STYLES.get(line.kind, "")
    return Text.assemble((mark, style), (rows[len(mark) :], "" if line.kind == "drift" else style))

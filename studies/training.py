"""The tables and pictures of docs/training.md, from what ``zcb train --json`` printed.

``zcb train tr.json --arm A,B,C --step-ms 20 --runs 3 --json > told.json``, then of ``python -m studies.training``:
``table told.json`` prints the table, ``figures told.json -o FILE.svg`` draws what decides as bars, and ``epochs
told.json --arms A,B -o FILE.svg`` an epoch of each arm, one below the other. Several files stand one after another.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.errors import BadUseError
from harness.paths import contents, write_atomically
from harness.results.text import number
from harness.site.curves import svg_text
from harness.site.epochs import of_epoch
from harness.site.pages.training import drawn_epoch

_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1b1f24}.soft{fill:#5b6472}"
    ".head{font-weight:600}.grid{stroke:#e2e5ea;fill:none}.wait{fill:#c2571a}.step{fill:#3a7d44}.flight{fill:#0a58b8}"
    ".ground{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e7eaee}.soft{fill:#a0a9b5}"
    ".grid{stroke:#39404a}.ground{fill:#14171c}}"
)
_BETWEEN = 14
_EDGE, _HEAD, _ROW, _LETTER, _PANEL, _VALUE = 8, 36, 18, 7.0, 170, 54

Arm = Mapping[str, Any]
"""An arm's figures, as ``zcb train --json`` names them."""


def _times(factor: float, key: str) -> Callable[[Arm], float | None]:
    return lambda arm: None if arm[key] is None else factor * arm[key]


COLUMNS: Mapping[str, Callable[[Arm], float | None]] = {
    "samples/s": _times(1, "samples_per_second"),
    "without step": _times(1, "samples_per_second_without_step"),
    "busy": _times(100, "utilisation"),
    "pause": _times(1e3, "step_seconds"),
    "fed": _times(1, "accelerators_fed"),
    "first": _times(1e3, "first_batch_seconds"),
    "p50": _times(1e3, "wait_p50_seconds"),
    "p99": _times(1e3, "wait_p99_seconds"),
    "requests": _times(1, "requests_per_sample"),
    "CPU": _times(1, "cpu_seconds_per_1000_samples"),
    "MiB": _times(2**-20, "peak_rss_bytes"),
}
"""Of the table: samples a second, %, ms, accelerators, ms, requests a sample, CPU ms a sample and MiB."""

_PANELS: Mapping[str, Callable[[Arm], float | None]] = {
    "accelerators fed": COLUMNS["fed"],
    "CPU ms a sample": COLUMNS["CPU"],
    "requests a sample": COLUMNS["requests"],
    "ms a pause is late": lambda arm: (
        None if arm["step_seconds"] is None else 1e3 * arm["step_seconds"] - arm["step_ms"]
    ),
    "ms to the first batch": COLUMNS["first"],
}


@click.group()
def main() -> None:
    """Show what a training loop was fed."""


@main.command()
@click.argument("told", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def table(told: Sequence[Path]) -> None:
    """Print the table of arms."""
    click.echo(f"| {' | '.join(('arm', *COLUMNS))} |\n|{'---|' * (1 + len(COLUMNS))}")
    for arm in _arms(told):
        click.echo(f"| `{arm['arm']}` | {' | '.join(_said(of(arm)) for of in COLUMNS.values())} |")


@main.command()
@click.argument("told", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--without", default="memory", show_default=True, metavar="A,B", help="Arms that are left out.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def figures(told: Sequence[Path], without: str, output: Path) -> None:
    """Draw what decides, a row of bars for each arm."""
    shown = [arm for arm in _arms(told) if arm["arm"] not in without.split(",")]
    write_atomically(output, bars(shown).encode())


@main.command()
@click.argument("told", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--arms", required=True, metavar="A,B", help="Whose epochs, from top to bottom.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def epochs(told: Sequence[Path], arms: str, output: Path) -> None:
    """Draw an epoch of each arm."""
    found = {arm["arm"]: arm for arm in _arms(told)}
    unknown = [name for name in arms.split(",") if name not in found]
    if unknown:
        raise BadUseError(f"no arm {unknown[0]!r}: there are {', '.join(found)}")
    write_atomically(output, stacked(list(_drawn(found[name] for name in arms.split(",")))).encode())


def _arms(told: Sequence[Path]) -> Iterator[Arm]:
    for path in told:
        read = json.loads(contents(path))
        yield from ({"step_ms": read["step_ms"]} | arm for arm in read["arms"])


def _said(value: float | None) -> str:
    return "-" if value is None else number(value)


def bars(arms: Sequence[Arm]) -> str:
    """Return the figures that decide as one SVG document: a row for each arm, a panel for each figure."""
    left = _EDGE + max(len(arm["arm"]) for arm in arms) * _LETTER
    width, height = left + len(_PANELS) * _PANEL, _HEAD + len(arms) * _ROW + _EDGE
    parts = [svg_text(_EDGE, _HEAD + _ROW * place + 12, arm["arm"], "plain") for place, arm in enumerate(arms)]
    for place, title in enumerate(_PANELS):
        parts += _panel(title, [_PANELS[title](arm) for arm in arms], left + place * _PANEL)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" '
        f'viewBox="0 0 {width:.0f} {height}">\n<style>{_STYLE}</style>\n'
        f'<rect class="ground" width="{width:.0f}" height="{height}"/>\n{"".join(parts)}</svg>\n'
    )


def _panel(title: str, values: Sequence[float | None], x: float) -> Iterator[str]:
    """Yield a panel, whose longest bar is as long as there is room."""
    yield svg_text(x, _HEAD - 14, title, "head")
    longest = max((value for value in values if value is not None), default=0) or 1
    for place, value in enumerate(values):
        y, long = _HEAD + _ROW * place, (_PANEL - _VALUE) * (value or 0) / longest
        yield f'<rect class="flight" x="{x:.1f}" y="{y + 2}" width="{long:.1f}" height="{_ROW - 6}"/>'
        yield svg_text(x + long + 4, y + 12, _said(value), "soft")


def _drawn(arms: Iterator[Arm]) -> Iterator[str]:
    for place, arm in enumerate(arms):
        epoch = drawn_epoch(arm)
        if epoch is None:
            raise BadUseError(f"{arm['arm']} has no epoch with steps to draw")
        yield of_epoch(arm["arm"], epoch["waits"], epoch["steps"], epoch["in_flight"], name=f"epoch{place}")


def stacked(pictures: Sequence[str]) -> str:
    """Return SVG documents one below the other as one, which brings its own style."""
    placed, y, widest = [], 0, 0
    for picture in pictures:
        width, height = (int(number) for number in re.findall(r'viewBox="0 0 (\d+) (\d+)"', picture)[0])
        placed.append(picture.replace("<svg ", f'<svg y="{y}" height="{height}" ', 1))
        y, widest = y + height + _BETWEEN, max(widest, width)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{widest}" height="{y}" viewBox="0 0 {widest} {y}">\n'
        f'<style>{_STYLE}</style>\n<rect class="ground" width="{widest}" height="{y}"/>\n{"".join(placed)}</svg>\n'
    )


if __name__ == "__main__":
    main()

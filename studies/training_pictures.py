"""The pictures of docs/training.md, from what ``zcb train --json`` printed.

``zcb train tr.json --arm A,B,C --step-ms 20 --runs 3 --json > told.json``, then ``python -m studies.training_pictures
told.json --arms A,B -o docs/pictures/training-epochs.svg``: an epoch of each arm, one below the other.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from harness.errors import BadUseError
from harness.paths import contents, write_atomically
from harness.site.epochs import of_epoch
from harness.site.pages.training import drawn_epoch

_STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#1b1f24}.soft{fill:#5b6472}"
    ".head{font-weight:600}.grid{stroke:#e2e5ea;fill:none}.wait{fill:#c2571a}.step{fill:#3a7d44}.flight{fill:#0a58b8}"
    ".ground{fill:#fff}@media(prefers-color-scheme:dark){text{fill:#e7eaee}.soft{fill:#a0a9b5}"
    ".grid{stroke:#39404a}.ground{fill:#14171c}}"
)
_BETWEEN = 14


@click.command()
@click.argument("told", type=click.Path(path_type=Path))
@click.option("--arms", required=True, metavar="A,B", help="Whose epochs, from top to bottom.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
def main(told: Path, arms: str, output: Path) -> None:
    """Draw an epoch of each arm."""
    found = {arm["arm"]: arm for arm in json.loads(contents(told))["arms"]}
    unknown = [name for name in arms.split(",") if name not in found]
    if unknown:
        raise BadUseError(f"{told} has no arm {unknown[0]!r}: it has {', '.join(found)}")
    write_atomically(output, stacked(list(_drawn(found[name] for name in arms.split(",")))).encode())


def _drawn(arms: Iterator[Mapping[str, Any]]) -> Iterator[str]:
    for number, arm in enumerate(arms):
        epoch = drawn_epoch(arm)
        if epoch is None:
            raise BadUseError(f"{arm['arm']} has no epoch with steps to draw")
        yield of_epoch(arm["arm"], epoch["waits"], epoch["steps"], epoch["in_flight"], name=f"epoch{number}")


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

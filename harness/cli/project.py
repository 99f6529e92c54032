"""``zcb project``: what measured reads would take with another link, other cores and another store."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.output import pretty
from harness.cli.values import FiniteRange
from harness.cloud import cost
from harness.errors import BadUseError
from harness.results import measured_cells, projection
from harness.results.costs import MeasuredCell, Place, by_row
from harness.results.projection import Projection
from harness.results.text import cores_in_words, number
from harness.workload.model import MOST_IN_FLIGHT

SCHEMA = 1

_UNLIMITED = ("shared_cores", "requests_per_second")
"""Of a place: what None says, and is not as it was measured."""

_UNTOLD = (
    "nothing tells whether threads take turns, as under Python's lock, and the interval holds both. Results of "
    "`taskset -c 0 zcb read ... --json` beside these tell, of any workload that the CPU binds."
)

_RATE = FiniteRange(min=0.001, max=1e6)
_CORES = FiniteRange(min=0.01, max=1e5)
_MS = FiniteRange(min=0.001, max=3.6e6)


@click.command(
    epilog="\b\nExample:\n  zcb sweep in-flight w.json --json > here.json\n"
    "  zcb project here.json --vm c6in.32xlarge --cores 128 --first-byte-ms 30"
)
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--link-gbit-s", type=_RATE, help="Rate of the link, 10^9 bits per second.")
@click.option("--vm", metavar="TYPE", help="Take the link's rate from cloud/prices.toml, e.g. c6in.32xlarge.")
@click.option("--cores", type=_CORES, required=True, help="Cores that the reader may use.")
@click.option("--first-byte-ms", type=_MS, help="Median time to the first byte (default: as measured).")
@click.option("--connection-mb-s", type=_RATE, help="Rate of each connection (default: as measured).")
@click.option(
    "--requests-per-second-per-prefix",
    "per_prefix",
    type=click.IntRange(0, 10**9),
    help="What a prefix is good for; 0 is no limit (default: that of s3 in cloud/prices.toml).",
)
@click.option(
    "--in-flight",
    type=click.IntRange(1, MOST_IN_FLIGHT),
    help="Requests in flight (default: the best of those that were measured).",
)
@click.option(
    "--tls/--plain",
    "encrypted",
    default=None,
    help="By TLS or plain HTTP (default: as measured). Other than that takes results by both.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every stage as JSON.")
def project(
    results: tuple[Path, ...],
    link_gbit_s: float | None,
    vm: str | None,
    cores: float,
    first_byte_ms: float | None,
    connection_mb_s: float | None,
    per_prefix: int | None,
    in_flight: int | None,
    encrypted: bool | None,
    as_json: bool,
) -> None:
    """Project what was measured at the embedded store to another machine: time, interval and what binds.

    RESULTS are files that `zcb read --json` or `zcb sweep in-flight --json` printed, or an asv configuration. It is a
    projection and no measurement (docs/projection.md).
    """
    prices = cost.load_prices()
    if (link_gbit_s is None) == (vm is None):
        raise BadUseError("say how fast the link is: either --link-gbit-s, or --vm with a type of cloud/prices.toml")
    if vm is not None:
        link_gbit_s = prices.of_vm(vm).gbit_s
    limit = prices.of_storage("s3").gets_per_second if per_prefix is None else per_prefix
    changes = {
        "link_gbit_s": link_gbit_s,
        "cores": cores,
        "shared_cores": None,
        "requests_per_second": limit or None,
        "first_byte_ms": first_byte_ms,
        "connection_mb_s": connection_mb_s,
        "encrypted": encrypted,
    }
    asked = {name: value for name, value in changes.items() if value is not None or name in _UNLIMITED}
    cells = [cell for path in results for cell in measured_cells.load(path)]
    known = projection.told(cells)
    rows = by_row(cells)
    found = [projection.best(row, _place(row, asked), in_flight, known[row[0].reader]) for row in rows]
    if as_json:
        report = {"schema": SCHEMA, "rows": found}
        click.echo(pretty(report))
    else:
        _show(found, cells)


def _place(row: Sequence[MeasuredCell], asked: dict[str, float | None]) -> Place:
    """Return the place that is asked for; what is not is as the row was measured, and a tail keeps its shape."""
    measured = row[-1].place
    place = msgspec.structs.replace(measured, **asked)
    if measured.first_byte_p99_ms is None or not measured.first_byte_ms:
        return place
    tail = measured.first_byte_p99_ms / measured.first_byte_ms
    return msgspec.structs.replace(place, first_byte_p99_ms=tail * place.first_byte_ms)


def _show(found: Sequence[Projection], cells: Sequence[MeasuredCell]) -> None:
    """Print a table for each workload, and what lies beyond what was measured."""
    console = Console(highlight=False)
    place = found[0].place  # what is asked for is the same in all
    by_tls = ", by TLS" if all(one.place.encrypted for one in found) else ""
    where = f"{place.link_gbit_s:g} Gbit/s and {cores_in_words(place.cores)}{by_tls}"
    console.print(f"Projection to {where}, not a measurement")
    console.print(f"Assumed of the store: {'; '.join(dict.fromkeys(_service(one.place) for one in found))}.")
    for label in dict.fromkeys(one.label for one in found):
        console.print(_table(label, [one for one in found if one.label == label]))
    beyond = _beyond(found, cells)
    if beyond is not None:
        console.print(beyond, markup=False)
    untold = dict.fromkeys(one.reader for one in found if one.in_turns is None)
    if untold:
        console.print(f"{', '.join(untold)}: {_UNTOLD}", markup=False)
    console.print("Its model, and how far it was off where it was checked: docs/projection.md.")


def _beyond(found: Sequence[Projection], cells: Sequence[MeasuredCell]) -> str | None:
    """Return a line that names what is asked for and lies beyond the range that was measured; None where nothing does.

    A link that was measured without a limit counts as none of those that were measured.
    """
    place = found[0].place
    asked_and_measured = (
        ("in flight", [one.in_flight for one in found], [cell.in_flight for cell in cells]),
        ("Gbit/s", [place.link_gbit_s], [cell.place.link_gbit_s for cell in cells]),
        ("cores", [place.cores], [cell.place.cores for cell in cells]),
    )
    asked, measured = [], []
    for unit, wanted, seen in asked_and_measured:
        known = [value for value in seen if value is not None]
        far = max((value for value in wanted if value is not None), key=lambda value: _distance(value, known))
        if _distance(far, known):
            asked.append(f"{far:g} {unit}")
            ends = dict.fromkeys(f"{end:g}" for end in (min(known), max(known))) if known else ()
            measured.append(f"{' to '.join(ends)} {unit}" if known else "a link without a limit")
    if not asked:
        return None
    verb = "lies" if len(asked) == 1 else "lie"
    said = f"{_listed(asked)} {verb} beyond what was measured: {', '.join(measured)}."
    return re.sub(r"\b1 cores\b", "1 core", said)


def _distance(value: float, known: Sequence[float]) -> float:
    """Return how many times a value is beyond the lowest or the highest of those that are known; 0 within them."""
    if not known:
        return math.inf
    times = max(min(known) / value, value / max(known))
    return times if times > 1 else 0.0


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _service(place: Place) -> str:
    """Return how fast the store is that a projection is to."""
    connection = "no limit on" if place.connection_mb_s is None else f"{place.connection_mb_s:g} MB/s of"
    prefix = "no limit of" if place.requests_per_second is None else f"{place.requests_per_second:g}"
    return f"first byte {place.first_byte_ms or 0:g} ms, {connection} a connection, {prefix} requests/s of a prefix"


def _table(label: str, found: Sequence[Projection]) -> Table:
    table = Table(title=label, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("reader", max_width=26, overflow="fold")
    for heading in ("in\nflight", "ms", "interval", "Gbit/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what binds")
    for one in found:
        low, high, middle = (number(1e3 * seconds) for seconds in (one.low, one.high, one.seconds))
        figures = (str(one.in_flight), middle, f"{low}-{high}", number(one.array_gbit_s))
        table.add_row(one.reader, *figures, _binds(one))
    return table


def _binds(one: Projection) -> str:
    """Return what binds, and how many requests wait for each other where that is why."""
    if one.binds == projection.WAITS and one.in_a_row:
        return f"{one.binds}: {one.in_a_row:.0f} in a row"
    return one.binds

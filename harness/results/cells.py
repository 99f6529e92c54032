"""Rows of pass records that stand beside each other in the terminal and on the page of readers, and their order."""

from collections.abc import Iterable, Sequence

import msgspec

from harness.errors import BadUseError
from harness.results.records import PassRecord, RowRecord
from harness.results.sample import NETWORK_LIMIT
from harness.workload.patterns import PATTERNS

DEFAULT_BASELINE = "zarr-python+fsspec"

Workload = tuple[str, str, int]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A row and the pass that it belongs to."""

    run: PassRecord
    row: RowRecord

    @property
    def workload(self) -> Workload:
        """The workload: pattern, its label, and requests in flight."""
        return self.run.pattern, self.row.label, self.row.in_flight


def place(record: PassRecord) -> str:
    """Return where a pass was measured: target, preset and machine; only there can passes be compared."""
    return " ".join(filter(None, (record.target, record.settings.get("ZCB_PRESET", ""), f"on {record.machine}")))


def at_one_place(records: Sequence[PassRecord], target: str | None = None) -> list[PassRecord]:
    """Return the passes of one place: that of the newest pass, of those that read from `target` where it is given.

    Raises
    ------
    BadUseError
        Nothing was measured at `target`.
    """
    chosen = [record for record in records if target in (None, record.target)]
    if not chosen:
        known = sorted({record.target for record in records})
        raise BadUseError(f"no results of target {target!r}: there are {', '.join(known)}")
    newest = max(chosen, key=lambda record: record.started)
    return [record for record in chosen if place(record) == place(newest)]


def variants(records: Sequence[PassRecord]) -> dict[str, list[PassRecord]]:
    """Return the passes of each version under test, oldest version first; the Python version tells equals apart."""
    pythons = {record.python.rpartition(".")[0] for record in records}
    grouped: dict[str, list[PassRecord]] = {}
    for record in records:
        name = record.variant
        if len(pythons) > 1:
            name += f" py{record.python.rpartition('.')[0]}"
        grouped.setdefault(name, []).append(record)
    return grouped


def newest(records: Iterable[PassRecord]) -> list[Cell]:
    """Return the rows of passes of one version, by workload and then reader, the newest pass of each pattern only."""
    passes: dict[tuple[object, ...], PassRecord] = {}
    for record in sorted(records, key=lambda record: record.started):
        passes[record.pattern, *sorted(record.settings.items())] = record
    found = [Cell(run=run, row=row) for run in passes.values() for row in run.rows]
    order = list(PATTERNS)
    return sorted(found, key=lambda cell: _place_in(order, cell.row.pattern))


def _place_in(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def by_workload(found: Iterable[Cell]) -> dict[Workload, dict[str, Cell]]:
    """Return the rows of each workload by reader."""
    grouped: dict[Workload, dict[str, Cell]] = {}
    for cell in found:
        grouped.setdefault(cell.workload, {})[cell.row.reader] = cell
    return grouped


def readers(found: Iterable[Cell]) -> list[str]:
    """Return the readers in the order of their first row, the network limit last."""
    names = list(dict.fromkeys(cell.row.reader for cell in found))
    return sorted(names, key=lambda name: name == NETWORK_LIMIT)


def libraries(found: Iterable[Cell]) -> dict[str, dict[str, str]]:
    """Return the versions of the libraries that each reader used."""
    used: dict[str, dict[str, str]] = {}
    for cell in found:
        used.setdefault(cell.row.reader, {}).update(cell.row.versions)
    return used

"""Figures from pass records: metrics, medians with their intervals, ratios, and whether the machine held still.

The terminal's table and the page of readers both show what stands here.
"""

from collections.abc import Iterable, Sequence

import msgspec

from harness.results.records import PassRecord, RowRecord
from harness.results.sample import NETWORK_LIMIT
from harness.workload.model import DEFAULT_IN_FLIGHT

DEFAULT_BASELINE = "zarr-python+fsspec"

_PATTERNS = ("whole_array", "chunks_of_one_shard", "chunks_of_many_shards", "random_crops", "headline_3004")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """A row and the pass that it belongs to."""

    run: PassRecord
    row: RowRecord

    @property
    def workload(self) -> tuple[str, str, int]:
        """The workload: pattern, its label, and requests in flight."""
        return self.run.pattern, self.row.label, self.row.in_flight


def place(record: PassRecord) -> str:
    """Return where a pass was measured: target, preset and machine; only there can passes be compared."""
    return " ".join(filter(None, (record.target, record.settings.get("ZCB_PRESET", ""), f"on {record.machine}")))


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


def cells(records: Iterable[PassRecord]) -> list[Cell]:
    """Return the rows of passes of one version, by workload and then reader, the newest pass of each pattern only."""
    newest: dict[tuple[object, ...], PassRecord] = {}
    for record in sorted(records, key=lambda record: record.started):
        newest[record.pattern, *sorted(record.settings.items())] = record
    found = [Cell(run=run, row=row) for run in newest.values() for row in run.rows]
    return sorted(found, key=lambda cell: _pattern_order(cell.row.label))


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


def short_label(row: RowRecord) -> str:
    """Return a workload's name without its pattern: the dataset and what was asked for, e.g. ``small gap=1``."""
    name = row.label.partition(" ")[2] or row.dataset
    return name if row.in_flight == DEFAULT_IN_FLIGHT else f"{name} in-flight={row.in_flight}"


def detail(row: RowRecord) -> str:
    """Say how much a workload wants: chunks, shards, and the size of the final array."""
    chunks, shards = _counted(row.wanted_chunks, "chunk"), _counted(row.wanted_shards, "shard")
    size, unit = (row.array_bytes / 2**20, "MiB") if row.array_bytes >= 2**20 else (row.array_bytes / 2**10, "KiB")
    return f"{chunks}, {shards}, {number(size)} {unit}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _pattern_order(label: str) -> int:
    name = label.partition(" ")[0]
    return _PATTERNS.index(name) if name in _PATTERNS else len(_PATTERNS)


def number(value: float) -> str:
    """Return a value with three digits, a whole number as it is."""
    if value == round(value) or abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:#.3g}"


def times(value: float) -> str:
    """Return a ratio with two decimals, more digits where it is small and fewer where it is large."""
    if value < 0.0995:
        return f"{value:.2g}"
    return f"{value:.2f}" if value < 9.995 else f"{value:#.3g}".rstrip(".")

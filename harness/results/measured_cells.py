"""Measured cells out of what was recorded: ``zcb read --json``, ``zcb sweep in-flight --json``, pass records."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import BadUseError, check_schema
from harness.paths import contents
from harness.results import records
from harness.results.costs import MeasuredCell, measured_cell, place_of
from harness.results.records import PassRecord
from harness.results.sample import Sample
from harness.results.sweeps import SCHEMA, InFlightSweep
from harness.store.state import Profile
from harness.targets.target import goes_by_tls
from harness.workload.patterns import PATTERNS, Parameters

_CONFIGURATION = ".conf.json"
_REPORT_SCHEMA = 1


class _Array(msgspec.Struct, kw_only=True):
    key: str


class _Work(msgspec.Struct, kw_only=True):
    """What a report tells of its workload."""

    pattern: str
    parameters: Parameters
    array: _Array
    in_flight: int
    reads: list[Any]
    concurrent_reads: int = 1
    array_bytes: int


class _Report(msgspec.Struct, kw_only=True):
    """A reader's report of ``zcb read --json``."""

    schema: int
    reader: str
    workload: _Work
    target: str = ""
    service: Profile | None = None
    cores: int
    machine_cores: int | None = None
    samples: list[Sample]


def load(path: Path) -> list[MeasuredCell]:
    """Return the cells of a file of results; an asv configuration stands for the pass records of its newest version.

    Raises
    ------
    BadUseError
        It holds none of these, nothing that was counted, or was not read from the embedded store.
    MeasurementError
        A pass record is damaged.
    """
    if path.name.endswith(_CONFIGURATION):
        found = records.load(path)
        every = [cell for record in found if record.variant == found[-1].variant for cell in _of_pass(record)]
    else:
        every = list(_of_json(path))
    cells = [cell for cell in every if cell is not None]
    if not cells:
        raise BadUseError(f"{path} has no samples of which requests and bytes were counted")
    return cells


def _of_json(path: Path) -> Iterator[MeasuredCell | None]:
    try:
        data = msgspec.json.decode(contents(path))
        if isinstance(data, dict) and data.get("kind") == "in-flight":
            check_schema(data, SCHEMA, path)
            return of_sweep(msgspec.convert(data, InFlightSweep))
        if isinstance(data, dict) and "arms" in data:
            raise BadUseError(
                f"{path} holds results of `zcb train`, which cannot be projected: only those of reads can"
            )
        given = data if isinstance(data, list) else [data]
        reports = msgspec.convert(given, list[_Report])
        for one in given:
            check_schema(one, _REPORT_SCHEMA, path)
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadUseError(
            f"{path} is neither an asv configuration nor what `zcb read --json` or `zcb sweep in-flight --json` "
            f"printed: {error}"
        ) from error
    return (cell for report in reports for cell in _of_report(report))


def _of_report(report: _Report) -> Iterator[MeasuredCell | None]:
    work = report.workload
    if not report.samples:
        return
    yield measured_cell(
        report.samples,
        place=place_of(
            report.service, report.cores, shared_cores=report.machine_cores, encrypted=goes_by_tls(report.target)
        ),
        reader=report.reader,
        label=work.parameters.label(work.pattern, work.array.key),
        in_flight=work.in_flight,
        reads=len(work.reads),
        concurrent_reads=work.concurrent_reads,
        array_bytes=work.array_bytes,
    )


def of_sweep(sweep: InFlightSweep) -> Iterator[MeasuredCell | None]:
    """Yield a cell for each reader and value of a sweep; None where `measured_cell` has none."""
    encrypted = goes_by_tls(sweep.target)
    place = place_of(sweep.service, sweep.cores, shared_cores=sweep.machine_cores, encrypted=encrypted)
    for reader in sweep.readers:
        for value in reader.values:
            yield measured_cell(
                value.samples,
                place=place,
                reader=reader.reader,
                label=sweep.label,
                in_flight=value.in_flight,
                reads=sweep.reads,
                concurrent_reads=sweep.concurrent_reads,
                array_bytes=sweep.array_bytes,
            )


def _of_pass(record: PassRecord) -> Iterator[MeasuredCell | None]:
    for row in record.rows:
        if not row.samples:
            continue
        yield measured_cell(
            row.samples,
            place=place_of(
                record.service,
                min(record.cores, record.cpu_quota or record.cores),
                shared_cores=record.machine_cores,
                encrypted=goes_by_tls(record.target),
            ),
            reader=row.reader,
            label=row.label,
            in_flight=row.in_flight,
            reads=row.reads,
            concurrent_reads=row.parameters.get("concurrent_reads") or PATTERNS[row.pattern].concurrent_reads,
            array_bytes=row.array_bytes,
        )

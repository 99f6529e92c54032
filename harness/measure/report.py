"""What ``zcb read --json`` prints: version 1 of the contract in docs/workload.md."""

from typing import Any

import msgspec

from harness.machine.cpu import cores, machine_cores
from harness.measure.conductor import Row
from harness.measure.floor import service_of
from harness.results.pilot import needed_of
from harness.results.sample import Sample
from harness.results.slower import slower
from harness.results.windows import quantiles
from harness.workload.model import Workload

SCHEMA = 1


def read_report(row: Row, limit: Row) -> str:
    """Return the samples of one reader and of the network limit around them as JSON."""
    return _pretty(_report(row, limit))


def read_reports(rows: list[Row], limit: Row) -> str:
    """Return a list of such reports; one without samples says why (``na`` or ``error``)."""
    return _pretty([_report(row, limit) | _reason(row) for row in rows])


def _reason(row: Row) -> dict[str, str]:
    return {name: reason for name, reason in (("na", row.na), ("error", row.error)) if reason is not None}


def _report(row: Row, limit: Row) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "reader": row.reader,
        "versions": row.versions,
        "settings": row.settings,
        "workload": row.workload.summary(),
        "target": row.workload.target.identity,
        "service": service_of(row.workload),
        "cores": cores(),
        "machine_cores": machine_cores(),
        "network": row.network,
        "environment": row.environment,
        "truth": _truth(row.workload),
        "samples": [_sample(sample) for sample in row.samples],
        "times_slower": _times_slower(row),
        "floor_seconds": row.floor_seconds,
        "needed": needed_of(row.samples),
        "network_limit": {
            "seconds": [sample.seconds for sample in limit.samples],
            "versions": limit.versions,
            "variant": limit.variant,
        },
    }


def _sample(sample: Sample) -> dict[str, Any]:
    """Return a sample; of a stream with the quantiles of its steps' rates."""
    fields: dict[str, Any] = msgspec.to_builtins(sample)
    return fields | {"gbit_s": quantiles(sample.windows) if sample.windows else None}


def _times_slower(row: Row) -> dict[str, Any]:
    """Return how many times slower than the network limit, with what that rests on; why there is none, or below 1."""
    found = slower(row.samples, row.workload.in_flight)
    fields: dict[str, Any] = {} if found.interval is None else msgspec.to_builtins(found.interval)
    if found.interval is not None and not found.interval.sure:
        fields |= dict.fromkeys(("low", "high", "coverage"))
    return fields | {"note": found.note}


def _truth(workload: Workload) -> dict[str, Any]:
    """Return who says what the arrays must hold: the manifest, or readers that agree where there is none."""
    agreed_by = workload.truth.agreed_by
    return {"source": "agreement" if agreed_by else "manifest", "readers": agreed_by}


def _pretty(report: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()

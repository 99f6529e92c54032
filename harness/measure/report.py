"""What ``zcb read --json`` prints: version 1 of the contract in docs/workload.md."""

from typing import Any

import msgspec

from harness.measure.conductor import Row
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
        "workload": summary(row.workload),
        "target": row.workload.target.identity,
        "network": row.network,
        "environment": row.environment,
        "truth": _truth(row.workload),
        "samples": row.samples,
        "network_limit": {
            "seconds": [sample.seconds for sample in limit.samples],
            "versions": limit.versions,
        },
    }


def _truth(workload: Workload) -> dict[str, Any]:
    """Return who says what the arrays must hold: the manifest, or readers that agree where there is none."""
    agreed_by = workload.truth.agreed_by
    return {"source": "agreement" if agreed_by else "manifest", "readers": agreed_by}


def _pretty(report: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=1).decode()


def summary(workload: Workload) -> dict[str, Any]:
    """Return what identifies a workload, without its truth, which is as long as the workload is large."""
    fields: dict[str, Any] = msgspec.to_builtins(workload)
    del fields["truth"]
    return fields | {"digest": workload.digest}

"""What ``zcb read --json`` and a survey wrote, read again: what the studies that make tables need of it."""

from pathlib import Path
from typing import Any

import msgspec

from harness.results.intervals import Interval, of_processes
from harness.results.sample import Sample
from harness.results.sessions import by_session
from harness.workload.patterns import Parameters


class Report(msgspec.Struct):
    """A reader on a workload."""

    reader: str
    workload: dict[str, Any]
    target: str
    samples: list[Sample]
    settings: dict[str, Any] = {}
    network_limit: dict[str, Any] = {}
    na: str | None = None
    error: str | None = None

    @property
    def label(self) -> str:
        """Pattern, data set and parameters of the workload, as a table names it."""
        values = (f"{name} {Parameters.text(value)}" for name, value in self.workload["parameters"].items())
        return ", ".join([self.workload["pattern"], self.workload["array"]["key"], *values])

    @property
    def seconds(self) -> Interval | None:
        """The median of its processes' medians."""
        return of_processes([sample.seconds for sample in of] for of in by_session(self.samples))


def load(path: Path) -> list[Report]:
    """Return the reports of a file."""
    return msgspec.json.decode(path.read_bytes(), type=list[Report])

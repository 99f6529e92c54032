"""Everything that goes wrong between a reader and a store, by every reader: right after retries, or failed with a cause.

The table in docs/reliability.md is made by this module: ``ZCB_FAULT_TABLE=docs/reliability.md pytest tests/test_faults.py``.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness import workload as workloads
from harness.measure.conductor import Conductor, Plan
from harness.measure.tracked import READERS
from harness.patterns import Parameters
from harness.readers import NETWORK_LIMIT
from harness.sample import FLAG_FAULTS
from harness.store.control import FAULTS, FaultRule
from harness.targets import resolve
from setup_data.cli import data
from tests import fault_table

COLUMNS = [*READERS, NETWORK_LIMIT]
HANG_SECONDS = 3.0


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    title: str
    rule: FaultRule
    retried: bool
    """Whether asking again helps, so that a reader may do so and be right."""
    cause: str
    """What a failure's message has to say: a pattern over what the reader, the truth or the store said, without the
    list of injected faults."""
    deadline: float | None = None


CASES = [
    Case("503 SlowDown, three in a row", FaultRule(fault="slow-down", count=3), True, "503|SlowDown"),
    Case("500 InternalError", FaultRule(fault="internal-error"), True, "500|InternalError"),
    Case("reset before the answer", FaultRule(fault="reset"), True, "reset|connection|sending request"),
    Case("reset in the body", FaultRule(fault="reset-body"), True, "reset|connection|body"),
    Case("truncated body", FaultRule(fault="truncate"), True, "."),
    Case("corrupt byte in a chunk", FaultRule(fault="corrupt"), False, "."),
    Case("corrupt byte in an index", FaultRule(fault="corrupt", kind="index"), False, "."),
    Case("wrong range", FaultRule(fault="wrong-range"), False, "."),
    Case("no answer", FaultRule(fault="hang"), True, "no answer within 3 s", HANG_SECONDS),
    Case("slow trickle", FaultRule(fault="trickle", count=0), False, "no answer"),
    Case("credentials expired in the middle", FaultRule(fault="expired-token", first=2), False, "403|ExpiredToken"),
    Case("missing shard", FaultRule(fault="missing", kind="index"), False, "404|NoSuchKey"),
]


@pytest.fixture(scope="module")
def workload(embedded_store):
    created = CliRunner().invoke(data, ["create", "--target", "embedded", "--preset", "tiny"], catch_exceptions=False)
    assert created.exit_code == 0, created.output
    asked = Parameters(shards=4)
    return workloads.create("chunks_of_many_shards", resolve("embedded"), dataset="tiny/large", parameters=asked)


@pytest.fixture(scope="module")
def measure(workload, rust_reader):
    """Measure one sample of every reader under a fault: (reader -> row, what was said)."""
    plans = {}
    said = []
    with Conductor(READERS, plan=Plan(samples=1, with_faults=True), say=said.append) as conductor:
        plans["conductor"] = conductor

        def run(deadline):
            conductor._plan = Plan(samples=1, with_faults=True, deadline_seconds=deadline)
            return {row.reader: row for row in conductor.measure(workload)}

        yield run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title.replace(" ", "-"))
def test_try(case, measure, control):
    import time
    control.add_fault(case.rule)
    t = time.monotonic()
    try:
        rows = measure(case.deadline)
    finally:
        control.clear_faults()
    print("####", case.title, f"{time.monotonic() - t:.1f} s")
    for name in COLUMNS:
        row = rows[name]
        if row.samples:
            s = row.samples[-1]
            print(name, "| OK", f"{s.seconds:.2f}", "req", s.requests, "retries", s.retries, "faults", s.faults, s.flags, "took", round(row.seconds, 1))
        else:
            print(name, "| NA" if row.na else "| FAIL", row.na or row.error)

"""What studies/processes.py says of processes of the same code."""

import msgspec
from click.testing import CliRunner

from harness.results.answer import ONE_PROCESS
from studies.processes import processes
from studies.reports import Report
from tests.support import passes


def report(*seconds):
    """A reader with six samples in each process, the slowest of them 1 % slower than the fastest."""
    samples = [
        passes.sample(of * (1 + number / 500), 0.04, 2**20, session=session, round_number=number)
        for session, of in enumerate(seconds, 1)
        for number in range(6)
    ]
    workload = {"pattern": "whole_array", "array": {"key": "demo/large"}, "parameters": {}, "array_bytes": 2**20}
    return Report(reader="zarrs", workload=workload, target="embedded", samples=samples)


def test_pairs_of_processes_are_counted_and_those_that_are_apart(tmp_path):
    file = tmp_path / "read.json"
    far = 2 * (1 + ONE_PROCESS)
    file.write_bytes(msgspec.json.encode([report(1, 1.005, 1.04), report(1, far)]))
    done = CliRunner().invoke(processes, [str(file)], catch_exceptions=False)
    *_, line = done.output.splitlines()
    pairs, _, _, most, apart, beyond = [cell.strip() for cell in line.strip("|").split("|")][1:]
    assert (pairs, apart, beyond) == ("4", "3", "1")
    assert most == f"{100 * (far - 1):.0f} %"

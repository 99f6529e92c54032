"""Measured cells: what files of results tell of the place that was read from."""

import random
from pathlib import Path

import pytest

from harness.errors import BadUseError
from harness.results import measured_cells
from harness.store.state import Profile
from tests.support.passes import WORKLOADS, record, rows


@pytest.mark.parametrize(
    ("noted", "cores", "shared"),
    [
        ({"cores": 4, "machine_cores": 16}, 4, 16),
        ({"cores": 16, "cpu_quota": 2.5, "machine_cores": 2}, 2.5, 2),
        ({"cores": 4}, 4, 4),  # an older record
    ],
)
def test_a_pass_tells_its_cores_and_those_that_it_shares_with_the_store(monkeypatch, noted, cores, shared):
    made = rows(next(iter(WORKLOADS)), 3, chance=random.Random(1), factors={"zarrs": 1.5})
    passed = record("v1", made, service=Profile(name="s3", first_byte_ms=20, link_gbit_s=2), **noted)
    monkeypatch.setattr(measured_cells.records, "load", lambda path: [passed])
    places = {cell.place for cell in measured_cells.load(Path("asv.conf.json"))}
    assert [(place.cores, place.shared_cores) for place in places] == [(cores, shared)]


def test_results_of_a_training_loop_are_refused_by_name(tmp_path):
    path = tmp_path / "train.json"
    path.write_text('{"schema": 1, "workload": {}, "arms": []}')
    with pytest.raises(BadUseError, match="results of `zcb train`, which cannot be projected"):
        measured_cells.load(path)

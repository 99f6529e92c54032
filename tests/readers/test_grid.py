"""A few arrays of every kind, drawn anew from a seed: each is read right by every reader, or not by its own words."""

import obstore
import pytest

from harness.errors import UnsupportedError
from harness.readers import reader_class
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.truth import Truth
from setup_data.bucket import ensure_bucket
from studies import grid
from studies.stored import encoded

CASES = 8


@pytest.mark.slow
@pytest.mark.usefixtures("embedded_store", "rust_reader")
def test_no_array_is_read_wrong():
    target = resolve("embedded")
    ensure_bucket(target)
    with grid.readers() as everyone:
        found = grid.run_many(CASES, target, everyone, seed=20261127)
    assert found.bad == []
    assert found.cases >= CASES // 2
    assert {name: sum(counts.values()) for name, counts in found.counts.items()} == dict.fromkeys(
        grid.READERS, found.cases
    )
    right = [counts[grid.RIGHT] for counts in found.counts.values()]
    assert sum(right) > len(right) * found.cases / 2  # else nobody reads anything, each by its own words


@pytest.mark.usefixtures("embedded_store")
def test_a_wrong_array_would_be_found():
    """The study itself: a truth that is not what is stored fails every reader that decodes."""

    class Told:
        def outcome(self, name, work):
            return (grid.WRONG, "read 0 is wrong") if name == "tensorstore" else (grid.RIGHT, "")

    target = resolve("embedded")
    ensure_bucket(target)
    found = grid.run_many(3, target, Told())
    assert found.cases > 0
    assert {line.split(":")[0] for line in found.bad} == {"tensorstore"}
    assert found.counts["tensorstore"] == {grid.WRONG: found.cases}
    assert found.counts["zarrs"] == {grid.RIGHT: found.cases}


COMPLEX = {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}], "data_type": "complex64"}
LOSES = "of a fill value it loses a NaN's payload"


@pytest.mark.usefixtures("embedded_store")
@pytest.mark.parametrize(
    ("changes", "reader", "reason"),
    [
        (COMPLEX | {"fill_value": [0.0, 0.0]}, "zarrs-python+obstore", "exchanges the real and the imaginary parts"),
        ({"data_type": "float16", "fill_value": "0x7e05"}, "zarr-python+obstore", "loses a NaN's payload"),
        ({"data_type": "float16", "fill_value": "0x7e05"}, "zarrs-python+obstore", "loses a NaN's payload"),
        ({"data_type": "float32", "fill_value": "0x7fc00005"}, "zarrs-python+obstore", LOSES),
    ],
)
def test_what_a_library_reads_wrong_is_na_for_it(changes, reader, reason):
    target = resolve("embedded")
    ensure_bucket(target)
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [3],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "attributes": {},
    } | changes
    obstore.put(open_store(target), "wrong/a/zarr.json", encoded(document))
    unknown = Truth(reads_crc32c="AAAAAA==", agreed_by=("nobody",))
    work = create_workload("whole_array", target, array="wrong/a", agree=lambda _: unknown)
    with pytest.raises(UnsupportedError, match=reason):
        reader_class(reader)().open(work)

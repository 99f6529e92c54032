"""A few arrays of every kind, drawn anew from a seed: each is read right by every reader, or not by its own words."""

import pytest

from harness.readers import all_readers
from harness.targets.resolve import resolve
from setup_data.bucket import ensure_bucket
from studies import grid

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
        all_readers(), found.cases
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

"""The fetch plans of the network limit: what they ask for, byte by byte."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from harness.readers.network_limit import MERGE_GAP_BYTES, PART_BYTES, exact, merged


@st.composite
def ascending_spans(draw):
    lengths = draw(st.lists(st.integers(1, 20 << 20), min_size=1, max_size=8))
    gaps = draw(
        st.lists(
            st.sampled_from([0, 1, MERGE_GAP_BYTES, MERGE_GAP_BYTES + 1, 5 << 20]),
            min_size=len(lengths),
            max_size=len(lengths),
        )
    )
    spans, at = [], 0
    for gap, length in zip(gaps, lengths, strict=True):
        spans.append((at + gap, at + gap + length))
        at += gap + length
    return spans


@given(ascending_spans())
def test_exact_fetches_each_wanted_byte_once_and_no_other(spans):
    plan = exact(spans)
    assert sum(b - a for a, b in plan) == sum(b - a for a, b in spans)
    assert all(0 < b - a <= PART_BYTES for a, b in plan)
    assert all(any(a <= x and y <= b for a, b in spans) for x, y in plan)


@given(ascending_spans())
def test_merged_covers_everything_and_only_bridges_small_gaps(spans):
    plan = merged(spans)
    assert all(0 < b - a <= PART_BYTES for a, b in plan)
    bridged = sum(b[0] - a[1] for a, b in itertools.pairwise(spans) if b[0] - a[1] <= MERGE_GAP_BYTES)
    assert sum(b - a for a, b in plan) == sum(b - a for a, b in spans) + bridged
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(plan))


def test_parts_are_cut_at_eight_mebibytes():
    assert exact([(5, 5 + 2 * PART_BYTES + 1)]) == [
        (5, 5 + PART_BYTES),
        (5 + PART_BYTES, 5 + 2 * PART_BYTES),
        (5 + 2 * PART_BYTES, 6 + 2 * PART_BYTES),
    ]

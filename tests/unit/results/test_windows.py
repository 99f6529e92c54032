"""The rate of a stream over time, as lines for a terminal."""

import pytest

from harness.results.sample import Window
from harness.results.windows import over_time


@pytest.mark.parametrize("step", [0.004, 0.03, 2.0])
def test_no_two_lines_have_the_same_time(step):
    _, *lines = over_time([Window(seconds=step, array_bytes=1 << 20)] * 40)
    times = [line.split()[0] for line in lines]
    assert len(set(times)) == len(times) > 1
    assert float(times[-1]) == pytest.approx(40 * step, rel=0.02)

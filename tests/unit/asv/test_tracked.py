"""What asv sees of a pass: names, units and values that results of before can be compared with, and quick imports."""

from types import SimpleNamespace

import pytest

from harness.asv.recorded import Recorded
from harness.asv.tracked import Tracked, cell
from harness.measure.conductor import Row
from tests.support import passes

UNITS = {
    "track_seconds": "seconds",
    "track_times_slower": "x network limit",
    "track_requests": "requests",
    "track_fetched_per_array_byte": "bytes/byte",
    "track_nic_per_array_byte": "bytes/byte",
    "track_cpu_seconds": "seconds",
    "track_peak_rss": "bytes",
}
STAGES = {
    "track_times_optimum": "x optimal schedule",
    "track_first_byte_seconds": "seconds",
    "track_transfer_seconds": "seconds",
    "track_decode_wait_seconds": "seconds",
    "track_decode_seconds": "seconds",
    "track_copy_seconds": "seconds",
}


def row(**fields):
    sample = passes.sample(0.12345678, 0.1, 2**20, **fields)
    return Row(reader="r", workload=SimpleNamespace(reads=((),)), samples=[sample])


@pytest.mark.parametrize(("kind", "units"), [(Tracked, UNITS), (Recorded, STAGES)])
def test_names_units_and_version_stay_so_that_results_of_before_can_be_compared(kind, units):
    found = {name: getattr(kind, name) for name in dir(kind) if name.startswith("track_")}
    assert {name: found[name].unit for name in units} == units
    assert kind.version == "1"
    assert all(track.__doc__.endswith(".") for track in found.values())


def test_values_are_in_the_units_and_digits_of_before():
    before = {
        "seconds": [0.123457],
        "times_slower": [1.235],
        "requests": [10],
        "fetched_per_array_byte": [0.5],
        "nic_per_array_byte": [0.572],
        "cpu_seconds": [0.041152],
        "peak_rss": [2**27],
    }
    found = cell(row(nic_rx_bytes=600_000, peak_rss_bytes=2**27))
    assert {name: found[name] for name in before} == before


def test_what_is_unknown_is_left_out_and_asv_is_told_why():
    cells = {("r", 0): cell(row(requests=None), limit_holds=False)}
    bench = Tracked()
    for metric, reason in {
        "nic_per_array_byte": "the loopback interface counts both directions",
        "requests": "requests is unknown here",
        "times_slower": "times_slower is unknown here",
    }.items():
        with pytest.raises(NotImplementedError, match=reason):
            getattr(bench, f"track_{metric}").setup(cells, "r", 0)
    bench.track_seconds.setup(cells, "r", 0)

"""What asv sees of a pass: names, units and values that results of before can be compared with, and quick imports."""

from types import SimpleNamespace

import pytest

from harness.asv.recorded import Recorded
from harness.asv.tracked import Tracked, cell, environment_plan
from harness.errors import BadUseError
from harness.measure.conductor import Row
from harness.targets.target import Target
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


EMBEDDED = Target(name="embedded", url="s3://bench", profile="s3")
CLOUD = Target(name="s3://bucket", url="s3://bucket", region="us-east-1")


def row(**fields):
    sample = passes.sample(0.12345678, 0.1, 2**20, **fields)
    return Row(reader="r", workload=SimpleNamespace(executed_reads=1, in_flight=100), samples=[sample])


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


def test_a_sample_given_to_asv_is_the_median_of_one_process():
    one = row()
    times = {1: [0.3, 0.1, 0.2], 2: [0.5, 0.4, 0.9]}
    one.samples = [passes.sample(s, 0.1 * n, 8, session=n) for n, of in times.items() for s in of]
    found = cell(one)
    assert found["seconds"] == [0.2, 0.5]
    assert found["times_slower"] == [2.0, 2.5]


def test_a_reader_with_more_requests_in_flight_than_asked_for_has_no_ratio_in_asv():
    found = cell(row(max_in_flight=200, flags=["in-flight"]))
    assert "times_slower" not in found
    assert found["requests"] == [10]


@pytest.mark.parametrize(
    ("variables", "samples", "sessions"),
    [
        ({}, 21, 7),
        ({"ZCB_SAMPLES": "3"}, 3, 3),
        ({"ZCB_SAMPLES": "14", "ZCB_SESSIONS": "2"}, 14, 2),
        ({"ZCB_GRID": "quick", "ZCB_SAMPLES": "6"}, 6, 1),
    ],
)
def test_the_thorough_profile_takes_seven_processes_and_the_quick_one_takes_one(
    monkeypatch, variables, samples, sessions
):
    for name in ("ZCB_SAMPLES", "ZCB_SESSIONS", "ZCB_GRID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    plan = environment_plan(EMBEDDED)
    assert (plan.samples, plan.sessions) == (samples, sessions)


@pytest.mark.parametrize("given", ["0", "-1", "many"])
def test_a_number_of_sessions_that_is_none_is_refused_in_a_line(monkeypatch, given):
    monkeypatch.setenv("ZCB_SESSIONS", given)
    with pytest.raises(BadUseError, match="must be numbers above 0: "):
        environment_plan(EMBEDDED)


@pytest.mark.parametrize(
    ("target", "hot", "cold"), [(EMBEDDED, "", False), (CLOUD, "", True), (CLOUD, "0", True), (CLOUD, "1", False)]
)
def test_a_real_target_is_read_cold_unless_hot_is_chosen(monkeypatch, target, hot, cold):
    monkeypatch.setenv("ZCB_HOT", hot)
    assert environment_plan(target).cold is cold

"""Whether the limit stands on a plateau, from samples that were made up."""

import pytest

from harness.results import plateau
from harness.results.plateau import Held, Plateau
from harness.results.sample import NETWORK_LIMIT, THROWN_AWAY, Sample

GIB = 2**30


def shape(reader, times, seconds):
    samples = [
        Sample(
            seconds=one, array_bytes=GIB, calls=1, fetched_bytes=GIB, max_in_flight=100 * times, cpu_seconds=one / 2,
            store_cpu_seconds=one, session=1, round_number=number, nic_rx_bytes=None, nic_rx_packets=None,
            peak_rss_bytes=None, flags=[], verified=True,
        )
        for number, one in enumerate(seconds)
    ]  # fmt: skip
    return Held(reader=reader, in_flight=100 * times, threads=2 * times, samples=samples)


def made(kept, doubled, thrown=(1.0,) * 8):
    return Plateau(
        schema=plateau.SCHEMA,
        started="2026-11-28T00:00:00+00:00",
        label="whole_array small",
        target="embedded:s3",
        digest="d",
        link_gbit_s=10.0,
        cores=2,
        sessions=1,
        shapes=[
            shape(NETWORK_LIMIT, 1, kept),
            shape(NETWORK_LIMIT, 2, doubled),
            shape(THROWN_AWAY, 1, thrown),
            shape(THROWN_AWAY, 2, thrown),
        ],
    )


@pytest.mark.parametrize(
    ("doubled", "holds"),
    [
        ((2.0,) * 8, True),
        ((1.96,) * 8, True),  # two percent less is still a plateau
        ((2.4,) * 8, True),
        ((1.9,) * 8, False),
        ((1.7, 2.3) * 4, None),
        ((1.0,) * 5, None),  # too few for an interval
        ((), None),
    ],
)
def test_it_holds_where_doubling_gains_less_than_three_percent_for_sure(doubled, holds):
    assert made((2.0,) * 8, doubled).holds(NETWORK_LIMIT) is holds


def test_rounds_are_held_against_their_own():
    """The machine is half as fast in every other round, for both."""
    assert made((2.0, 4.0) * 4, (1.0, 2.0) * 4).doubled(NETWORK_LIMIT).high == pytest.approx(0.5, abs=1e-9)


def test_figures_and_answers_are_told():
    told = plateau.report(made((2.0,) * 8, (1.0,) * 8))
    figures = {key: found["median"] for key, found in told["shapes"][1]["figures"].items()}
    assert figures == pytest.approx(
        {"seconds": 1.0, "bodies_gbit_s": GIB * 8e-9, "connections": 200, "cores": 0.5, "store_cores": 1.0}
    )
    assert told["plateaus"]["kept"]["holds"] is False
    assert told["plateaus"]["thrown away"]["holds"] is True
    assert told["kept_over_thrown_away"]["median"] == pytest.approx(2)

"""Projections: each stage by its formula, what binds, what overlap does, and intervals that are honest about reach."""

import json
import math
import re

import msgspec
import pytest
from click.testing import CliRunner

from harness.cli import zcb
from harness.errors import BadUseError
from harness.results import measured_cells
from harness.results.costs import Costs, MeasuredCell, Place, by_row, measured_cell
from harness.results.projection import Shape, best, project, stages, together, told
from harness.results.sweeps import SweptReader, SweptValue, report
from harness.store.state import Profile
from tests.support.passes import sample
from tests.unit.site.test_sweeps_page import swept

HERE = Place(link_gbit_s=2, connection_mb_s=90, first_byte_ms=20, cores=2, shared_cores=2)
TERABIT = msgspec.structs.replace(HERE, link_gbit_s=1000, shared_cores=None)
COSTS = Costs(
    requests=256,
    trips=(128.0, 128.0),
    fetched_bytes=100e6,
    cpu_seconds=0.4,
    busiest_thread_seconds=0.25,
    store_cpu_seconds=0.1,
    max_in_flight=100,
)


def cell(seconds=0.6, *, costs=None, place=HERE, in_flight=100, **fields):
    """Make a cell whose reader, unless `costs` tell otherwise, has as many in flight as it is asked for."""
    costs = costs or msgspec.structs.replace(COSTS, max_in_flight=in_flight)
    known = {"reader": "r", "label": "w", "reads": 1, "concurrent_reads": 1, "array_bytes": 2 * 10**8}
    return MeasuredCell(
        **(known | fields),
        place=place,
        costs=costs,
        in_flight=in_flight,
        seconds=seconds,
        low=0.98 * seconds,
        high=1.02 * seconds,
    )


def of(place=HERE, costs=COSTS, in_flight=100, **fields):
    return stages(cell(**fields), costs, place, in_flight, in_flight)


def test_each_stage_is_what_its_formula_says():
    found = of()
    assert found["round trips"] == pytest.approx(2 * 0.020)
    assert found["requests in flight"] == pytest.approx((256 * 0.020 + 100e6 / 90e6) / 100 - 0.040)
    assert found["link"] == pytest.approx(100e6 * 8 / 2e9)
    assert found["requests per prefix"] == 0
    assert found["CPU of all cores"] == pytest.approx((0.4 + 0.1) / 2)  # the store shares them
    assert found["CPU of one thread"] == 0.25


def test_elsewhere_the_store_takes_no_core_and_a_prefix_has_its_limit():
    place = msgspec.structs.replace(HERE, shared_cores=None, cores=8, requests_per_second=5500)
    assert of(place)["CPU of all cores"] == pytest.approx(0.4 / 8)
    assert of(place)["requests per prefix"] == pytest.approx(256 / 5500)
    assert "CPU of one thread" not in of(costs=msgspec.structs.replace(COSTS, busiest_thread_seconds=None))


def test_round_trips_are_the_longest_of_the_draws_and_reads_in_turn_add_up():
    tail = msgspec.structs.replace(HERE, first_byte_p99_ms=100)
    one = msgspec.structs.replace(COSTS, trips=(1.0,))
    assert of(tail, one)["round trips"] == pytest.approx(0.020)
    assert of(tail)["round trips"] > 2 * 0.080
    assert of(tail, in_flight=2)["round trips"] < of(tail)["round trips"]  # no more wait together than are in flight
    assert of(reads=64, concurrent_reads=16)["round trips"] == pytest.approx(4 * 2 * 0.020)


def test_without_limits_there_is_the_cpu_alone():
    found = of(Place(cores=2))
    assert {name for name, seconds in found.items() if seconds} == {"CPU of all cores", "CPU of one thread"}


def test_overlap_lies_between_the_sum_and_the_longest():
    found = {"round trips": 1.0, "link": 2.0, "CPU of all cores": 4.0}
    assert together(found, 0) == pytest.approx(7.0)
    assert together(found, 1) == pytest.approx(4.0)
    assert 4.0 < together(found, 0.5) < 7.0
    assert together(found | {"CPU of one thread": 2.5}, 0) == pytest.approx(7.0)  # its seconds are among the others
    assert together(found | {"CPU of one thread": 4.5}, 0) == pytest.approx(7.5)


def test_the_network_takes_its_round_trips_and_then_the_longest_of_what_else_it_does():
    found = {"round trips": 1.0, "link": 2.0, "requests in flight": 1.5, "CPU of all cores": 0.5}
    assert together(found, 1) == pytest.approx(3.0)
    assert together(found, 0) == pytest.approx(3.5)
    assert together({"round trips": 1.0, "CPU of all cores": 0.0}, 0.5) == pytest.approx(1.0)


def test_where_it_was_measured_a_projection_says_what_was_measured():
    for seconds in (0.5, 0.6, 0.8, 2.0):
        said = project([cell(seconds)], HERE, 100)
        assert said.seconds == pytest.approx(seconds, rel=0.01)
        assert said.low < seconds < said.high
        assert (said.high - said.low) / seconds < 0.1


def test_a_fast_link_leaves_another_stage_to_bind():
    assert project([cell(costs=msgspec.structs.replace(COSTS, fetched_bytes=200e6))], HERE, 100).binds == "link"
    far = project([cell()], TERABIT, 100)
    assert far.binds == "CPU of one thread"
    near = project([cell()], msgspec.structs.replace(HERE, link_gbit_s=3), 100)
    assert (far.high - far.low) / far.seconds > (near.high - near.low) / near.seconds


def test_several_cells_pin_the_overlap_down():
    truth = 0.6

    def made(place, in_flight):
        found = stages(cell(), COSTS, place, in_flight, in_flight)
        return cell(together(found, truth), place=place, in_flight=in_flight)

    slow = msgspec.structs.replace(HERE, link_gbit_s=0.5)
    known = [made(HERE, 100), made(slow, 100), made(HERE, 20), made(slow, 20)]
    target = msgspec.structs.replace(HERE, link_gbit_s=10, cores=1, shared_cores=None)
    said = project(known, target, 50)
    assert said.overlap == pytest.approx(truth)
    assert said.factor == pytest.approx(1)
    assert said.seconds == pytest.approx(together(stages(cell(), COSTS, target, 50, 50), truth), rel=1e-3)
    assert said.low < said.seconds < said.high


def test_a_reader_that_is_held_back_stays_so():
    held = msgspec.structs.replace(COSTS, max_in_flight=4.0)
    many, few = (project([cell(5.0, costs=costs)], HERE, 400) for costs in (held, COSTS))
    assert many.stages["requests in flight"] == pytest.approx((256 * 0.020 + 100e6 / 90e6) / 4 - 0.040)
    assert few.stages["requests in flight"] == 0


def test_it_is_held_back_at_what_it_had_when_it_was_asked_for_about_as_many():
    known = [
        cell(costs=msgspec.structs.replace(COSTS, max_in_flight=seen), in_flight=asked)
        for asked, seen in ((10, 4.0), (100, 4.0), (400, 7.0))
    ]
    few, many = (project(known, HERE, asked).stages["requests in flight"] for asked in (40, 800))
    assert few == pytest.approx((256 * 0.020 + 100e6 / 90e6) / 4 - 0.040)
    assert many == pytest.approx((256 * 0.020 + 100e6 / 90e6) / 7 - 0.040)


def _rows_of_a_lock(in_a_row, places):
    """Make cells of a reader that sends so many of its 256 requests one after another."""
    for place, in_flight in places:
        found = stages(cell(), COSTS, place, in_flight, in_flight, Shape(in_a_row=in_a_row))
        yield cell(together(found, 0.6), place=place, in_flight=in_flight)


SLOW = msgspec.structs.replace(HERE, link_gbit_s=0.5)


@pytest.mark.parametrize("in_a_row", [0, 64, 128])
def test_requests_that_wait_for_each_other_are_told_from_others(in_a_row):
    known = list(_rows_of_a_lock(in_a_row, [(HERE, 100), (SLOW, 100), (HERE, 10), (SLOW, 10)]))
    far = msgspec.structs.replace(HERE, first_byte_ms=60, shared_cores=None)
    said = project(known, far, 400)
    assert said.in_a_row == pytest.approx(in_a_row, rel=0.05)
    (truth,) = _rows_of_a_lock(in_a_row, [(far, 400)])
    assert said.seconds == pytest.approx(truth.seconds, rel=0.05)
    assert said.binds == ("round trips" if in_a_row else "link")


@pytest.mark.parametrize("places", [[(HERE, 100), (HERE, 10)], [(HERE, 100), (SLOW, 100), (HERE, 100)]])
def test_two_cells_or_one_number_in_flight_tell_of_no_requests_in_a_row(places):
    assert project(list(_rows_of_a_lock(128, places)), HERE, 100).in_a_row == 0


BUSY = msgspec.structs.replace(COSTS, cpu_seconds=2.0, busiest_thread_seconds=1.0)
ONE_CORE = msgspec.structs.replace(HERE, cores=1)
MANY_CORES = msgspec.structs.replace(HERE, cores=64, shared_cores=None)


def _busy(place, in_turns, in_flight):
    """Make a cell of a reader whose threads work side by side, or in turns."""
    costs = msgspec.structs.replace(BUSY, max_in_flight=float(in_flight))
    found = stages(cell(), costs, place, in_flight, in_flight, Shape(in_turns=in_turns))
    return cell(together(found, 0.7), costs=costs, place=place, in_flight=in_flight)


@pytest.mark.parametrize("in_turns", [False, True])
@pytest.mark.parametrize("with_one", [(10, 100), (20, 60)], ids=["all else equal", "all else alike"])
def test_two_numbers_of_cores_tell_whether_threads_take_turns(in_turns, with_one):
    known = [_busy(HERE, in_turns, asked) for asked in (10, 100)]
    known += [_busy(ONE_CORE, in_turns, asked) for asked in with_one]
    said = project(known, MANY_CORES, 100)
    assert said.in_turns == in_turns
    assert said.binds == ("CPU of threads in turns" if in_turns else "CPU of one thread")
    assert said.seconds == pytest.approx(_busy(MANY_CORES, in_turns, 100).seconds, rel=0.03)


def test_what_more_cores_do_to_a_reader_is_told_by_its_other_workloads():
    """A second core costs it half as much CPU again, and its busiest thread a quarter; a hundred cores cost no more."""
    more = msgspec.structs.replace(COSTS, cpu_seconds=0.6, busiest_thread_seconds=0.3125)
    others = [cell(label="other", place=ONE_CORE), cell(label="other", costs=more)]
    (known,) = told(others).values()
    found = {
        cores: project([cell(place=ONE_CORE)], msgspec.structs.replace(MANY_CORES, cores=cores), 100, known).stages
        for cores in (1, 2, 100)
    }
    assert [found[cores]["CPU of all cores"] * cores for cores in found] == pytest.approx([0.4, 0.6, 0.6])
    assert [stage["CPU of one thread"] for stage in found.values()] == pytest.approx([0.25, 0.3125, 0.3125])
    back = project([cell(costs=more)], ONE_CORE, 100, known).stages
    assert back["CPU of all cores"] == pytest.approx(0.4)


@pytest.mark.parametrize("in_turns", [False, True])
def test_other_workloads_tell_whether_threads_take_turns(in_turns):
    every = [_busy(place, in_turns, asked) for place in (HERE, ONE_CORE) for asked in (10, 100)]
    row = [msgspec.structs.replace(one, label="other") for one in every if one.place == HERE]
    known = told([*every, *row])["r"]
    said = project(row, MANY_CORES, 100, known)
    assert said.in_turns == in_turns
    assert said.seconds == pytest.approx(_busy(MANY_CORES, in_turns, 100).seconds, rel=0.03)


def test_where_nothing_tells_it_the_interval_holds_both():
    known = [_busy(HERE, True, asked) for asked in (10, 100)]
    truth = _busy(MANY_CORES, True, 100).seconds
    said = project(known, MANY_CORES, 100)
    assert not said.in_turns
    assert said.low < truth < said.high
    rust = [
        msgspec.structs.replace(one, costs=msgspec.structs.replace(one.costs, busiest_thread_seconds=None))
        for one in known
    ]
    assert project(rust, MANY_CORES, 100).high < truth  # which has no such lock


def test_cells_that_lie_apart_widen_the_interval():
    close, apart = (project([cell(0.6), cell(0.6 * off), cell(0.6 / off)], HERE, 100) for off in (1.01, 1.3))
    assert close.high / close.low < 1.1
    assert apart.high / apart.low > 1.6
    assert apart.low < 0.6 / 1.3 < 0.6 * 1.3 < apart.high


def test_a_reader_that_does_not_keep_to_what_it_is_asked_for_stays_so():
    beyond = cell(5.0, costs=msgspec.structs.replace(COSTS, max_in_flight=64.0), in_flight=40)
    few, asked = (project([beyond], HERE, number) for number in (10, 64))
    assert few.stages["requests in flight"] == pytest.approx(asked.stages["requests in flight"], rel=0.05)


def test_costs_are_those_of_the_most_similar_number_in_flight():
    few = cell(costs=msgspec.structs.replace(COSTS, requests=1000.0, max_in_flight=10.0), in_flight=10)
    said = project([few, cell()], msgspec.structs.replace(HERE, requests_per_second=1000), 12)
    assert said.stages["requests per prefix"] == 1
    chosen = best([cell(5.0, in_flight=10), cell(0.6)], HERE, None)
    assert chosen.in_flight == 100


FAR = math.exp(-2)
"""What a cell counts that is two doublings away, where one at the place itself counts 1."""


def test_cpu_time_is_that_of_the_likest_cells():
    known = [cell(costs=msgspec.structs.replace(COSTS, cpu_seconds=0.8), in_flight=25), cell()]
    of_both = [project(known, HERE, asked).stages["CPU of all cores"] * 2 - 0.1 for asked in (25, 50, 100)]
    assert of_both == pytest.approx([(0.8 + 0.4 * FAR) / (1 + FAR), 0.6, (0.4 + 0.8 * FAR) / (1 + FAR)])


def test_what_the_stages_leave_over_is_that_of_the_likest_cells():
    bound = msgspec.structs.replace(COSTS, fetched_bytes=800e6)  # by the link, which takes 3.2 s
    known = [cell(4.0, costs=bound, in_flight=25), cell(8.0, costs=bound)]
    said = [project(known, HERE, asked).seconds for asked in (25, 50, 100)]
    share = FAR / (1 + FAR)
    assert said == pytest.approx([4 * 2**share, 4 * 2**0.5, 8 / 2**share], rel=0.03)


def test_one_number_of_cores_does_not_tell_whether_threads_take_turns():
    one, two = (_busy(place, True, 100) for place in (ONE_CORE, HERE))
    rust = cell(costs=msgspec.structs.replace(COSTS, busiest_thread_seconds=None))
    assert project([two], TERABIT, 100).in_turns is None
    assert project([one, two], TERABIT, 100).in_turns is True
    assert project([cell(place=ONE_CORE), cell()], TERABIT, 100).in_turns is None  # the link binds, on one and on two
    assert project([rust], TERABIT, 100).in_turns is False


def test_a_file_tells_whether_it_was_read_by_tls(tmp_path):
    both = []
    for target in ("embedded:s3", "embedded:s3+tls+signed"):
        both.append(tmp_path / f"{len(both)}.json")
        service = Profile(name="s3", first_byte_ms=20, link_gbit_s=2)
        both[-1].write_bytes(msgspec.json.encode(report(swept(service=service, target=target))))
    assert [{one.place.encrypted for one in measured_cells.load(path)} for path in both] == [{False}, {True}]

    def projected(*arguments):
        elsewhere = ["--link-gbit-s", "100", "--cores", "64", *arguments]
        return CliRunner().invoke(zcb, ["project", *map(str, elsewhere)])

    assert projected(*both, "--tls").stdout.startswith("Projection to 100 Gbit/s and 64 cores, by TLS, not a measure")
    assert projected(both[1]).stdout.startswith("Projection to 100 Gbit/s and 64 cores, by TLS, not a measurement")
    assert projected(*both, "--plain").stdout.startswith("Projection to 100 Gbit/s and 64 cores, not a measurement")
    assert "was measured by plain HTTP alone" in str(projected(both[0], "--tls").exception)


def test_a_sweep_and_its_json_give_a_cell_for_each_value(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(report(swept(service=Profile(name="s3", first_byte_ms=20, link_gbit_s=2)))))
    cells = measured_cells.load(path)
    assert [(row[0].reader, [one.in_flight for one in row]) for row in by_row(cells)] == [
        ("tensorstore", [1, 10, 100]),
        ("zarrs", [1, 10, 100]),
        ("network-limit", [1, 10, 100]),
    ]
    first = cells[0]
    assert (first.place.link_gbit_s, first.place.connection_mb_s, first.place.cores) == (2, None, 2)
    assert first.costs.trips == (2.0, 8.0)  # indexes, then data
    done = CliRunner().invoke(zcb, ["project", str(path), "--vm", "c6in.32xlarge", "--cores", "128", "--json"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)["rows"]
    assert [row["reader"] for row in rows] == ["tensorstore", "zarrs", "network-limit"]
    assert all(row["low"] <= row["seconds"] <= row["high"] and row["binds"] in row["stages"] for row in rows)
    assert {(row["place"]["link_gbit_s"], row["place"]["requests_per_second"]) for row in rows} == {(200.0, 5500.0)}


@pytest.mark.parametrize("columns", [80, 120])
def test_the_terminal_says_that_it_is_a_projection(tmp_path, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(report(swept())))
    done = CliRunner().invoke(zcb, ["project", str(path), "--link-gbit-s", "100", "--cores", "64"])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("Projection to 100 Gbit/s and 64 cores, not a measurement")
    assert max(map(len, done.stdout.splitlines())) <= columns


def test_the_terminal_says_how_many_requests_wait_for_each_other(tmp_path):
    took = {asked: 0.020 * (128 + 128 / asked) for asked in (2, 10, 100)}
    little = {"cpu_seconds": 0.01, "store_cpu_seconds": 0.01}
    values = [
        SweptValue(in_flight=asked, samples=[sample(seconds, None, 8, requests=256, max_in_flight=asked, **little)])
        for asked, seconds in took.items()
    ]
    service, readers = Profile(name="s3", first_byte_ms=20), [SweptReader(reader="zarrs", versions={}, values=values)]
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(report(swept(service=service, readers=readers))))
    done = CliRunner().invoke(zcb, ["project", str(path), "--link-gbit-s", "100", "--cores", "64"])
    assert done.exit_code == 0, done.output
    assert re.search(r"round trips: 1[23]\d in a row", " ".join(done.stdout.split()))


@pytest.mark.parametrize(
    ("link", "cores", "in_flight", "said"),
    [
        (2, 2, 50, None),
        (2, 2, 800, "800 in flight lies beyond what was measured: 1 to 100 in flight."),
        (2, 1, 10, "1 core lies beyond what was measured: 2 cores."),
        (100, 64, 1, "100 Gbit/s and 64 cores lie beyond what was measured: 2 Gbit/s, 2 cores."),
    ],
)
def test_what_lies_beyond_what_was_measured_is_named(tmp_path, monkeypatch, link, cores, in_flight, said):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "x.json"
    service = Profile(name="s3", first_byte_ms=20, link_gbit_s=2)
    path.write_bytes(msgspec.json.encode(report(swept(service=service, cores=2))))
    asked = ["--link-gbit-s", str(link), "--cores", str(cores), "--in-flight", str(in_flight)]
    done = CliRunner().invoke(zcb, ["project", str(path), *asked])
    assert done.exit_code == 0, done.output
    told = [line for line in done.stdout.splitlines() if "beyond what was measured" in line]
    assert told == ([] if said is None else [said])


OF_ANOTHER_VERSION = b"""[{"schema": 3, "reader": "zarrs", "cores": 2, "samples": [], "workload": {
    "pattern": "whole_array", "parameters": {}, "array": {"key": "demo/small"}, "in_flight": 100, "reads": [],
    "array_bytes": 1}}]"""


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (b"{}", (), "neither an asv configuration"),
        (b"\xff", (), "neither an asv configuration"),
        (b"[]", (), "no samples of which requests"),
        (b'{"schema": 2, "kind": "in-flight"}', (), "has schema 2; this version reads 1"),
        (OF_ANOTHER_VERSION, (), "has schema 3; this version reads 1"),
        (None, (), "only what was read from the embedded store"),
        (b"{}", ("--vm", "nobody"), "no price of the VM 'nobody'"),
        (b"{}", ("--no-link",), "say how fast the link is"),
    ],
)
def test_what_cannot_be_projected_is_one_line(tmp_path, content, arguments, said):
    path = tmp_path / "x.json"
    path.write_bytes(msgspec.json.encode(report(swept(service=None))) if content is None else content)
    where = [] if "--no-link" in arguments else (arguments or ["--link-gbit-s", "10"])
    done = CliRunner().invoke(zcb, ["project", str(path), "--cores", "2", *where])
    assert isinstance(done.exception, BadUseError)
    assert said in str(done.exception)


def test_what_was_not_counted_gives_no_cell():
    fields = {"place": HERE, "reader": "r", "label": "w", "in_flight": 1, "reads": 1, "concurrent_reads": 1}
    assert measured_cell([sample(1, None, 8, requests=None)], array_bytes=8, **fields) is None
    assert measured_cell([], array_bytes=8, **fields) is None
    assert measured_cell([sample(1, None, 8)], array_bytes=8, **fields).costs.requests == 10

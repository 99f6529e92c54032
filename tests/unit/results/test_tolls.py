"""What TLS costs a reader: told by the same reads with it and without, for bytes, requests and handshakes."""

import msgspec
import pytest

from harness.errors import BadUseError
from harness.results.projection import Told, project
from harness.results.tolls import Toll, encryption
from tests.unit.results.test_projection import COSTS, HERE, cell

BY_TLS = msgspec.structs.replace(HERE, encrypted=True)


def encrypted(label, nbytes, byte, *, requests=256, request=0.0, new_connections=0, handshake=0.0):
    """Make a pair of cells of a workload; TLS takes so many seconds of the processor for each of these."""
    costs = msgspec.structs.replace(COSTS, fetched_bytes=nbytes, requests=requests, new_connections=new_connections)
    more = byte * nbytes + request * requests + handshake * new_connections
    tls = msgspec.structs.replace(
        costs,
        cpu_seconds=costs.cpu_seconds + more,
        busiest_thread_seconds=costs.busiest_thread_seconds + more / 2,
        store_cpu_seconds=costs.store_cpu_seconds + 2 * more,
    )
    return [cell(costs=costs, label=label), cell(costs=tls, label=label, place=BY_TLS)]


def test_what_tls_costs_is_told_by_pairs_that_differ_in_nothing_else():
    every = [*encrypted("a", 1e8, 2e-9), *encrypted("b", 3e8, 2e-9)]
    every += [cell(label="d"), cell(label="d", place=BY_TLS, in_flight=10), cell(label="d", place=BY_TLS, reader="q")]
    (reader, found), *others = encryption(every).items()
    assert (reader, others) == ("r", [])
    tolls = (found.cpu, found.busiest_thread, found.store_cpu)
    assert [toll.byte for toll in tolls] == pytest.approx([2e-9, 1e-9, 4e-9])
    assert [(toll.request, toll.handshake) for toll in tolls] == [pytest.approx((0, 0))] * 3


def test_bytes_requests_and_handshakes_have_costs_of_their_own():
    told = {"byte": 1e-9, "request": 5e-5, "handshake": 2e-3}
    every = [
        *encrypted("new connections", 1e6, **told, new_connections=64),
        *encrypted("many requests", 1e7, **told, requests=8192),
        *encrypted("many bytes", 3e8, **told),
    ]
    tls = encryption(every)["r"]
    assert (tls.cpu.byte, tls.cpu.request, tls.cpu.handshake) == pytest.approx(tuple(told.values()))
    place = msgspec.structs.replace(BY_TLS, cores=1, shared_cores=None)
    kept, opened = (
        project([cell(costs=msgspec.structs.replace(COSTS, new_connections=number))], place, 100, Told(tls=tls))
        for number in (0, 32)
    )
    assert kept.stages["CPU of all cores"] == pytest.approx(0.4 + 0.1 + 256 * 5e-5)
    assert opened.stages["CPU of all cores"] == pytest.approx(0.4 + 0.1 + 256 * 5e-5 + 0.064)


def test_bytes_cost_every_reader_the_same_where_its_own_cells_cannot_tell():
    """The reader's requests all fetch as much, so that least squares take either."""
    told = {"byte": 1e-9, "request": 5e-5}
    alone = [*encrypted("a", 256e4, **told, requests=256), *encrypted("b", 512e4, **told, requests=512)]
    others = [
        msgspec.structs.replace(one, reader=name)
        for name in ("q", "s")
        for one in [*encrypted("a", 3e8, **told), *encrypted("b", 1e6, **told, requests=4096)]
    ]
    tls = encryption([*alone, *others])["r"]
    assert (tls.cpu.byte, tls.cpu.request) == pytest.approx((1e-9, 5e-5))
    assert tls.store_cpu.byte == pytest.approx(2e-9)


def test_readers_that_do_not_tell_their_busiest_thread_say_nothing_of_others():
    python = [*encrypted("a", 1e8, 2e-9), *encrypted("b", 3e8, 2e-9)]
    rust = [
        msgspec.structs.replace(one, reader=name, costs=msgspec.structs.replace(one.costs, busiest_thread_seconds=None))
        for name in ("q", "s")
        for one in python
    ]
    found = encryption([*python, *rust])
    assert found["r"].busiest_thread.byte == pytest.approx(1e-9)
    assert found["q"].busiest_thread == Toll()


def test_nothing_gets_cheaper_by_tls():
    some = encrypted("b", 1e6, -1e-9, new_connections=9, handshake=1e-3)
    tls = encryption([*encrypted("a", 1e8, -1e-9), *some])["r"]
    assert tls.cpu.byte == 0
    assert tls.cpu.handshake > 0
    none = encryption(encrypted("a", 1e8, -1e-9, new_connections=5, handshake=-1e-3))["r"]
    assert (none.cpu.byte, none.cpu.request, none.cpu.handshake) == (0, 0, 0)


def test_a_row_by_plain_http_is_foretold_by_tls_and_back():
    tls = Told(tls=encryption(encrypted("other", 1e8, 1e-9))["r"])
    said = project([cell()], msgspec.structs.replace(BY_TLS, cores=1), 100, tls)
    assert said.stages["CPU of all cores"] == pytest.approx(0.4 + 0.1)
    assert said.stages["CPU of one thread"] == pytest.approx(0.25 + 0.05)
    back = project([cell(place=BY_TLS)], msgspec.structs.replace(HERE, cores=1), 100, tls)
    assert back.stages["CPU of all cores"] == pytest.approx(0.4 - 0.1)
    alone = msgspec.structs.replace(BY_TLS, cores=1, shared_cores=None)
    own = project(encrypted("w", 1e8, 5e-9), alone, 100, tls)
    assert own.stages["CPU of all cores"] == pytest.approx(0.4 + 0.5)  # as it was measured by TLS
    with pytest.raises(BadUseError, match="r was measured by plain HTTP alone: what TLS costs it is told by"):
        project([cell()], BY_TLS, 100)

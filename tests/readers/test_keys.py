"""Keys of every printable character: all readers ask for the same object, by plain HTTP and as S3."""

import functools
import string

import msgspec
import obstore
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from obstore.store import MemoryStore

from harness.datasets import places
from harness.errors import BadUseError, MeasurementError, UnsupportedError
from harness.measure import agreement
from harness.measure.agreement import agreed_truth
from harness.measure.execution import OPEN_SECONDS, turn_deadline
from harness.measure.process import WorkerProcess
from harness.readers import limit_clients, reader_class
from harness.targets.resolve import resolve
from harness.targets.target import Target, address
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import checksums
from setup_data import presets, write
from setup_data.field import Field
from tests.support import origin
from tests.support.readers import OF_ARRAYS

PRINTABLE = "".join(c for c in string.printable if c.isprintable() and c != "/")
KEYS = st.text(st.characters(exclude_characters="/").filter(str.isprintable), min_size=1, max_size=12)
(SPEC,) = presets.specs("tiny", ("small",))
EVERYONE = [*OF_ARRAYS, *limit_clients()]


@functools.cache
def objects():
    return origin.tiny("small")


@pytest.fixture(scope="module")
def work():
    """What is read, whatever the array is called."""
    store = origin.Origin({f"/{key}": body for key, body in objects().items()})
    with origin.serving(store) as place:
        return create_workload(
            "chunks_of_one_shard", resolve(place.address), dataset="tiny/small", parameters=Parameters(gap=1)
        )


@pytest.fixture(scope="module")
def place():
    with origin.serving(origin.Origin()) as serving:
        yield serving


@pytest.fixture(scope="module")
def workers(rust_reader):
    """A process of each reader and of each client of the limit."""
    started = {name: WorkerProcess(reader_class(name)) for name in EVERYONE}
    yield started
    for worker in started.values():
        worker.stop()


def stored(above):
    """Return the array's objects at the place where `above` is what stands before their keys."""
    return {f"{above}/{key.removeprefix('tiny/small/')}": body for key, body in objects().items()}


def asked_by(worker: WorkerProcess, work: Workload, place: origin.Origin):
    """Return what a reader asks for where it reads an array, and the statuses of the answers."""
    place.seen.clear()
    opened = worker.require({"op": "open", "workload": msgspec.to_builtins(work)}, timeout=OPEN_SECONDS)
    worker.require({"op": "sample", "variant": opened["variants"][0]}, timeout=turn_deadline(work))
    return {one.path for one in place.seen}, {one.status for one in place.seen}


@pytest.mark.slow
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(key=PRINTABLE)
@example(key="s%232%3F%25%2F%2e%2E::b?versionId=1")
@example(key="ä漢😀é + %20")
@given(key=KEYS.filter(lambda key: key not in (".", "..")))
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_every_reader_asks_for_the_same_object(scheme, key, work, place, workers):
    endpoint = {"endpoint": place.address, "region": "us-east-1"} if scheme == "s3" else {}
    url = "s3://bench/a" if scheme == "s3" else f"{place.address}/b%23%3F/a"
    above = f"/bench/a/{key}" if scheme == "s3" else f"/b#?/a/{key}"
    place.objects = stored(above)
    there = Target(name="x", url=url, anonymous=True, **endpoint)
    named = msgspec.structs.replace(work, target=there, array=msgspec.structs.replace(work.array, key=key))
    for name, worker in workers.items():
        if scheme == "s3" and "?versionId=" in key and name == "zarr-python+fsspec":
            with pytest.raises(UnsupportedError, match="for an object's version"):
                asked_by(worker, named, place)
            continue
        paths, statuses = asked_by(worker, named, place)
        assert {path for path in paths if not path.startswith(f"{above}/")} == set(), (name, key)
        assert statuses <= {200, 206}, (name, key)
        assert paths, name


@pytest.mark.parametrize("key", [PRINTABLE, "s%232.zarr", "ä漢😀 +"])
def test_an_array_is_found_by_its_address_and_by_no_other_spelling_of_it(key, place):
    place.objects = stored(f"/{key}")
    place.seen.clear()
    target, array = places.at_url(resolve(address(place.address, key)))
    assert (target.url, array.key) == (place.address, key)
    assert {one.path for one in place.seen} == {f"/{key}/zarr.json"}


@pytest.mark.parametrize("part", ["%2E%2E", "a%2Fb", "%FF", "a%00", "%0A"])
def test_an_address_whose_last_part_is_no_name_is_refused(part, place):
    place.objects = dict.fromkeys((f"/{part}/zarr.json", "/a/b/zarr.json", "/\ufffd/zarr.json"), b"{}")
    place.spoil = lambda handler: handler.answer(200, b"{}") or True
    try:
        with pytest.raises(BadUseError, match=r"in its path|stands for no name"):
            places.at_url(resolve(f"{place.address}/x/{part}"))
    finally:
        place.spoil = lambda _: False


# --- the truth of an array whose name looks like another one's


@pytest.fixture(scope="module")
def lookalikes(embedded_store, s3):
    """Two arrays of the same shape, `s` and `s#2.zarr`, and the address of the second."""
    s3.create_bucket(Bucket="lookalikes")
    for name, seed in (("s", 1), ("s#2.zarr", 2)):
        written = MemoryStore()
        write.write(written, msgspec.structs.replace(SPEC, seed=seed))
        for meta in obstore.list(written, "tiny/small").collect():
            body = bytes(obstore.get(written, meta["path"]).bytes())
            key = f"{name}/{meta['path'].removeprefix('tiny/small/')}"
            s3.put_object(Bucket="lookalikes", Key=key, Body=body)
    return f"{embedded_store.endpoint}/lookalikes/s%232.zarr"


@pytest.mark.parametrize("cannot_decode", [(), ("tensorstore",)])
def test_a_number_sign_in_a_name_is_no_fragment(lookalikes, monkeypatch, cannot_decode):
    asked = agreement._checksums

    def told(reader, work):
        if reader in cannot_decode:
            raise MeasurementError("an unknown codec")
        return asked(reader, work)

    monkeypatch.setattr(agreement, "_checksums", told)
    made = create_workload("whole_array", resolve(lookalikes), agree=agreed_truth)
    assert (made.target.url, made.array.key) == (lookalikes.rpartition("/")[0], "s#2.zarr")
    first, second = (Field(seed, SPEC.dtype).box((0,) * len(SPEC.shape), SPEC.shape) for seed in (1, 2))
    assert made.truth.reads_crc32c == checksums(made.array, made.reads, [second])
    assert made.truth.reads_crc32c != checksums(made.array, made.reads, [first])


@pytest.mark.parametrize("key", ["s#2.zarr", "plain.zarr"])
def test_two_referees_with_one_client_do_not_vouch_for_a_key_that_has_to_be_encoded(key, work, monkeypatch):
    def told(reader, _):
        if reader in ("tensorstore", "zarr-python+fsspec"):
            raise MeasurementError("cannot decode it")
        return "AAAAAA=="

    monkeypatch.setattr(agreement, "_checksums", told)
    named = msgspec.structs.replace(work, array=msgspec.structs.replace(work.array, key=key))
    if key == "plain.zarr":
        assert agreed_truth(named).agreed_by == ("zarr-python+obstore", "zarrista")
    else:
        with pytest.raises(MeasurementError, match="no two independent readers"):
            agreed_truth(named)

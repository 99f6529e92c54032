"""What is claimed to have been requested where no store counts: what the server saw, or nothing."""

import threading
from http import HTTPStatus

import msgspec
import pytest

from harness.measure.conductor import Conductor, Plan
from harness.readers import reader_class
from harness.results.sample import NETWORK_LIMIT
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support import origin
from tests.support.readers import OF_ARRAYS

COUNT = ["zarr-python+fsspec"]
"""Who counts below retries and redirects whatever is asked."""


class Redirect:
    """Answers each first request of an object by 302 to the same place by another name."""

    def __call__(self, handler):
        if handler.path.startswith("/there"):
            handler.path = handler.path.removeprefix("/there")
            return False
        handler.answer(302, b"it is there", location=f"/there{handler.path}")
        return True


class NoSuffixes:
    """Answers a suffix range with the whole object, as a server that does not know them."""

    def __call__(self, handler):
        if not handler.asked.startswith("bytes=-"):
            return False
        handler.answer(200, handler.origin.objects[handler.key])
        return True


class Busy:
    """Answers the first range of each object and client by 503."""

    def __init__(self):
        self._seen, self._lock = set(), threading.Lock()

    def __call__(self, handler):
        with self._lock:
            if not handler.asked or handler.asked in self._seen:
                return False
            self._seen.add(handler.asked)
        handler.answer(503, b"busy", retry_after="0")
        return True


@pytest.fixture(scope="module")
def place():
    with origin.serving(origin.Origin({f"/{key}": body for key, body in origin.tiny("small").items()})) as serving:
        yield serving


@pytest.fixture(scope="module")
def work(place):
    return create_workload(
        "chunks_of_one_shard", resolve(place.address), dataset="tiny/small", parameters=Parameters(gap=1)
    )


@pytest.fixture(scope="module")
def conductor(rust_reader):
    with Conductor(OF_ARRAYS, plan=Plan(samples=1, trials=1)) as one:
        yield one


def measured(work, place, conductor, monkeypatch, spoil):
    """Hold what each execution claims against what the server saw of it; return the last sample of each row."""
    sample = Conductor._sample

    def watched(self, row, candidate, probe):
        place.spoil = spoil() if spoil else lambda _: False
        place.seen.clear()
        found = sample(self, row, candidate, probe)
        told.append((candidate, found, list(place.seen)))
        return found

    told = []
    monkeypatch.setattr(Conductor, "_sample", watched)
    try:
        rows = list(conductor.measure(work))
    finally:
        place.spoil = lambda _: False
    for candidate, found, seen in told:  # of each plan that competed, not of the winner alone
        check(candidate, found, seen, work.target)
    return {row.reader: row.samples[-1] for row in rows if row.samples}


def check(candidate, sample, seen, target):
    """Hold what a sample claims against what the server saw."""
    assert (sample.requests is not None) == reader_class(candidate.reader).counts_alone(target), candidate
    if sample.requests is None:
        assert (sample.requests_source, sample.fetched_bytes, sample.index_requests) == (None, None, None)
        assert (sample.head_requests, sample.retries) == (None, None)
        return
    assert sample.requests_source == "reader"
    assert sample.requests == len(seen), candidate
    assert sample.fetched_bytes == sum(one.nbytes for one in seen), candidate
    indexes = [one for one in seen if one.range.startswith("bytes=-") and one.status == HTTPStatus.PARTIAL_CONTENT]
    assert sample.index_requests == len(indexes), candidate
    assert sample.head_requests == sum(one.method == "HEAD" for one in seen), candidate
    assert sample.retries == sum(one.status >= 500 for one in seen), candidate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "cannot"),
    [
        (None, []),
        (Redirect, ["tensorstore"]),
        (NoSuffixes, ["zarr-python+fsspec", "tensorstore"]),  # no HEAD helps them out; the limit takes shards whole
        (Busy, ["zarr-python+fsspec"]),
    ],
)
def test_a_count_is_the_servers_or_nothing(work, place, conductor, monkeypatch, spoil, cannot):
    found = measured(work, place, conductor, monkeypatch, spoil)
    assert [name for name in (*OF_ARRAYS, NETWORK_LIMIT) if name not in found] == cannot
    counted = [found[name].requests for name in COUNT if name in found]
    assert counted == {None: [2], Redirect: [4]}.get(spoil, [])


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [None, Busy])
def test_what_s3fs_asks_again_is_counted(work, place, monkeypatch, spoil):
    (name,) = COUNT
    place.objects = {f"/bench{key}": body for key, body in place.objects.items()} | place.objects
    target = Target(name="x", url="s3://bench", endpoint=place.address, region="us-east-1", anonymous=True)
    with Conductor(COUNT, plan=Plan(samples=1, trials=1)) as one:
        there = msgspec.structs.replace(work, target=target)
        sample = measured(there, place, one, monkeypatch, spoil)[name]
    assert (sample.requests, sample.retries) == ((2, 0) if spoil is None else (4, 2))

"""fsspec's gcsfs, where somebody installed it (the extra clouds): a read from a server that answers as Google does."""

import msgspec
import pytest

from harness.errors import UnsupportedError
from harness.readers import reader_class
from harness.targets import fsspec
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from tests.support import origin

NAME = "zarr-python+fsspec"


@pytest.fixture(scope="module")
def place():
    """The tiny data set by its own path, and as Google's JSON API has it."""
    plain = origin.tiny("small")
    google = {f"/download/storage/v1/b/bench/o/a/{key}": body for key, body in plain.items()}
    with origin.serving(origin.Origin({f"/{key}": body for key, body in plain.items()} | google)) as serving:
        yield serving


@pytest.fixture(scope="module")
def work(place):
    asked = Parameters(gap=1)
    made = create_workload("chunks_of_one_shard", resolve(place.address), dataset="tiny/small", parameters=asked)
    target = Target(name="x", url="gs://bench/a", endpoint=place.address, anonymous=True)
    return msgspec.structs.replace(made, target=target)


def test_an_index_and_a_merged_range_are_counted_as_the_server_saw_them(place, work):
    pytest.importorskip(fsspec.GCSFS, reason="the extra clouds is not installed")
    reader = reader_class(NAME)()
    reader.open(work)
    try:
        reader.read()
        place.seen.clear()
        reader.reset_request_counts()
        reader.check(work, reader.read())
        counts = reader.request_counts()
    finally:
        reader.close()
    assert [one.range.startswith("bytes=-") for one in place.seen] == [True, False]
    assert (counts.requests, counts.index_requests, counts.retries) == (2, 1, 0)
    assert counts.fetched_bytes == sum(one.nbytes for one in place.seen)
    assert reader.versions()[fsspec.GCSFS]


@pytest.mark.parametrize(("scheme", "needed"), [("gs", "gcsfs"), ("az", "adlfs")])
def test_a_cloud_that_fsspec_cannot_read_names_what_it_lacks(work, scheme, needed, monkeypatch):
    monkeypatch.setitem(fsspec.UNREAD, "gs", fsspec.UNREAD.get("gs", "gcsfs, which is not installed"))
    account = {"account": "any"} if scheme == "az" else {}
    there = msgspec.structs.replace(work, target=Target(name="x", url=f"{scheme}://bench/a", **account))
    with pytest.raises(UnsupportedError, match=f"fsspec reads {scheme}:// with {needed}"):
        reader_class(NAME)().open(there)

"""Small arrays stored like ten public ones: read by every reader over plain HTTP, and the table of docs/public.md."""

import obstore
import pytest

from harness.errors import BadUseError
from harness.paths import ROOT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth, checksums
from studies.grid import OF_ARRAYS, readers
from tests.support.lookalikes import LOOKALIKES

PAGE = ROOT / "docs" / "public.md"


@pytest.fixture(scope="module")
def place(embedded_store, s3):
    """The address under which plain HTTP finds them, each in a group called by its number, and what they hold."""
    s3.create_bucket(Bucket="lookalikes-of-public")
    bucket = {"url": "s3://lookalikes-of-public", "endpoint": embedded_store.endpoint, "anonymous": True}
    store = open_store(Target(name="own", **bucket))
    values = {}
    for number, one in enumerate(LOOKALIKES):
        found, values[one.name] = one.objects()
        for key, body in found.items():
            obstore.put(store, f"{number}.zarr/{one.path}/{key}", body)
    return f"{embedded_store.endpoint}/lookalikes-of-public", values


@pytest.fixture(scope="module")
def everyone(rust_reader):
    with readers() as started:
        yield started


def made(place, number, pattern="whole_array", **asked):
    address, values = place
    one = LOOKALIKES[number]

    def by_numpy(work):
        arrays = [values[one.name][tuple(slice(*axis) for axis in read)] for read in work.reads]
        return Truth(reads_crc32c=checksums(work.array, work.reads, arrays), agreed_by=("numpy",))

    target = resolve(f"{address}/{number}.zarr")
    return create_workload(pattern, target, array=one.path, parameters=Parameters(**asked), agree=by_numpy)


@pytest.mark.slow
def test_every_reader_reads_what_is_stored_like_public_arrays(place, everyone):
    found = {name: [] for name in OF_ARRAYS}
    for number, one in enumerate(LOOKALIKES):
        work = made(place, number)
        outcomes = {name: everyone.outcome(name, work) for name in OF_ARRAYS}
        assert {name: out for name, out in outcomes.items() if out[0] not in ("right", "n/a")} == {}, one.name
        for name, (outcome, _) in outcomes.items():
            found[name].append(outcome)
    head = [f"| stored like | {' | '.join(one.name for one in LOOKALIKES)} |", "|---|" + "---|" * len(LOOKALIKES)]
    rows = [f"| `{name}` | {' | '.join(outcomes)} |" for name, outcomes in found.items()]
    page = PAGE.read_text(encoding="utf-8").splitlines()
    missing = [line for line in (*head, *rows) if line not in page]
    assert missing == [], "docs/public.md does not have these rows"


@pytest.mark.parametrize("number", range(len(LOOKALIKES)), ids=[one.name for one in LOOKALIKES])
def test_patterns_of_shards_are_for_arrays_with_shards(place, number):
    is_sharded = "codecs" in LOOKALIKES[number].document
    if is_sharded:
        assert made(place, number, "chunks_of_one_shard", chunks=2).array.is_sharded
        return
    for pattern in ("chunks_of_one_shard", "chunks_of_many_shards"):
        with pytest.raises(BadUseError, match=r"needs shards, and .* has none: .*whole_array and random_crops"):
            made(place, number, pattern)
    work = made(place, number)
    assert work.wanted_bytes == work.object_bytes
    assert not work.array.is_sharded

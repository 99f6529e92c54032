"""Small arrays stored like ten public ones: read by every reader over plain HTTP, and the table of docs/public.md."""

import pytest

from harness.errors import BadUseError
from harness.paths import ROOT
from harness.readers import all_readers
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth, checksums
from studies.grid import readers
from tests.support import origin
from tests.support.lookalikes import LOOKALIKES

PAGE = ROOT / "docs" / "public.md"


@pytest.fixture(scope="module")
def place():
    """A server of all of them: each in a group that is called by its number."""
    objects, values = {}, {}
    for number, one in enumerate(LOOKALIKES):
        found, values[one.name] = one.objects()
        objects |= {f"/{number}.zarr/{one.path}/{key}": body for key, body in found.items()}
    with origin.serving(origin.Origin(objects=objects)) as server:
        yield server, values


@pytest.fixture(scope="module")
def everyone(rust_reader):
    with readers() as started:
        yield started


def made(place, number, pattern="whole_array", **asked):
    server, values = place
    one = LOOKALIKES[number]

    def by_numpy(work):
        arrays = [values[one.name][tuple(slice(*axis) for axis in read)] for read in work.reads]
        return Truth(reads_crc32c=checksums(work.array, work.reads, arrays), agreed_by=("numpy",))

    target = resolve(f"{server.address}/{number}.zarr")
    return create_workload(pattern, target, array=one.path, parameters=Parameters(**asked), agree=by_numpy)


@pytest.mark.slow
def test_every_reader_reads_what_is_stored_like_public_arrays(place, everyone):
    lines = [f"| stored like | {' | '.join(f'`{name}`' for name in all_readers())} |"]
    lines.append("|---|" + "---|" * len(all_readers()))
    for number, one in enumerate(LOOKALIKES):
        found = [everyone.outcome(name, made(place, number)) for name in all_readers()]
        assert {outcome for outcome, _ in found} <= {"right", "n/a"}, (one.name, found)
        lines.append(f"| {one.name} | {' | '.join(outcome for outcome, _ in found)} |")
    table = "\n".join(lines)
    assert table in PAGE.read_text(encoding="utf-8"), f"docs/public.md should have:\n{table}"


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

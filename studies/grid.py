"""Arrays of every kind that libraries write, each held to numpy by every reader (docs/data.md).

``zcb store start --profile loopback``, then ``python -m studies.grid --cases 300``: a table of readers, and of how many
arrays each read right, could not read by its library's own words, or read wrong. Exit code 1: one was read wrong.
"""

import asyncio
import contextlib
import itertools
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import icechunk
import msgspec
import numpy as np
import obstore
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from harness.datasets.array import METADATA_NAMES
from harness.errors import MeasurementError, UnsupportedError, WrongDataError, ZcbError
from harness.measure.execution import OPEN_SECONDS, turn_deadline
from harness.measure.process import WorkerProcess
from harness.readers import benchmarked, limit_clients, reader_class
from harness.targets.client import open_store
from harness.targets.icechunk import BRANCH, icechunk_storage
from harness.targets.resolve import resolve
from harness.targets.target import Target
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.patterns import Parameters
from harness.workload.truth import Truth, checksums
from setup_data.bucket import ensure_bucket
from studies import stored
from studies.stored import Array, Document

READERS = [*benchmarked(), *limit_clients()]
OF_ARRAYS = [name for name in READERS if reader_class(name).stored_as is None]
"""Those that read an array wherever it stands; the others read a repository that has to be written beside it."""
RIGHT, NA, WRONG, FAILED = "right", "n/a", "wrong", "failed"
_NUMBERS = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
_ONE_BYTE = 1
_INTEGERS = "iu"
_PLACES = ("plain", "with space", "per%cent", "ä漢😀", "group/inner/plain")


@dataclass(frozen=True, kw_only=True)
class Case:
    """An array as it is stored, and what it holds."""

    document: Document
    values: Array
    objects: tuple[int, ...]
    """Numbers of those that are written; the others hold the fill value."""
    writer: str
    place: str
    """Path below a folder of its own."""
    pattern: str
    asked: Parameters

    def __repr__(self) -> str:
        """Return what tells one case from another, without its elements."""
        return f"{self.pattern} of {self.place}, objects {self.objects}, by {self.writer}: {self.document}"


@dataclass
class Outcomes:
    """What came of the cases, by reader."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Why a reader could not, in its library's words cut short."""
    bad: list[str] = field(default_factory=list)
    """Arrays that were wrong, and reads that failed: reader, case and reason."""
    cases: int = 0
    unwritten: int = 0
    """Arrays that neither library could write."""


# --- what an array may be like


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Return arrays of both formats, with whatever a library writes: up to three axes and some hundreds of elements."""
    axes = draw(st.integers(1, 3))
    chunks = tuple(draw(st.lists(st.integers(1, 5), min_size=axes, max_size=axes)))
    zarr_format = draw(st.sampled_from([2, 3, 3]))
    shards = draw(st.none() | st.tuples(*(st.integers(1, 3) for _ in chunks))) if zarr_format == 3 else None
    whole = chunks if shards is None else tuple(map(int.__mul__, chunks, shards))
    shape = tuple(draw(st.integers(1, 2 * size + 1)) for size in whole)
    dtype = draw(_types(zarr_format))
    fill, stored_fill = draw(_fills(dtype, zarr_format))
    described = _v3 if zarr_format == 3 else _v2
    document = draw(described(shape, whole, None if shards is None else chunks, dtype, stored_fill))
    count = len(list(stored.objects_of(document)))
    objects = draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count))
    values = np.full(shape, fill, dtype)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    for number, box in enumerate(stored.objects_of(document)):
        if number in objects:
            values[box] = _random(random, values[box].shape, dtype)
    crop = tuple(draw(st.integers(1, size)) for size in shape)
    reads = [("whole_array", Parameters()), ("random_crops", Parameters(crop=crop, crops=3, seed=1))]
    if shards is not None and document["codecs"][0]["name"] == "sharding_indexed":
        few = Parameters(chunks=draw(st.integers(1, 2)), gap=draw(st.integers(0, 1)))
        reads.append(("chunks_of_one_shard", few))
    pattern, asked = draw(st.sampled_from(reads))
    return Case(
        document=document,
        values=values,
        objects=tuple(sorted(objects)),
        writer=draw(st.sampled_from(stored.WRITERS)),
        place=draw(st.sampled_from(_PLACES)),
        pattern=pattern,
        asked=asked,
    )


def _types(zarr_format: int) -> st.SearchStrategy[np.dtype[Any]]:
    others = st.sampled_from(["M8[ns]", "M8[D]", "m8[s]", "S3", "U2"] + (["V2"] if zarr_format == 3 else []))
    swapped = st.booleans() if zarr_format == 2 else st.just(False)
    numbers = st.sampled_from(_NUMBERS)
    names = st.one_of(numbers, numbers, numbers, others)
    return st.tuples(names, swapped).map(lambda one: np.dtype(one[0]).newbyteorder(">" if one[1] else "<"))


@st.composite
def _fills(draw: st.DrawFn, dtype: np.dtype[Any], zarr_format: int) -> tuple[Any, Any]:
    """Return a fill value as numpy has it, and as metadata do."""
    kind = dtype.kind
    if kind == "b":
        return (draw(st.booleans()),) * 2
    if kind in "iu":
        limits = np.iinfo(dtype)
        return (draw(st.integers(int(limits.min), int(limits.max))),) * 2
    if kind == "f":
        return draw(_float_fill(dtype, payloads=zarr_format == 3))
    if kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        (real, real_json), (imag, imag_json) = (draw(_float_fill(part, payloads=zarr_format == 3)) for _ in range(2))
        both = np.empty(1, dtype)
        both.real, both.imag = real, imag
        return both[0], [real_json, imag_json]
    if kind in "Mm":
        return np.int64(0).astype(dtype), 0
    if kind == "V":
        return np.zeros((), dtype)[()], [0, 0]
    return np.zeros((), dtype)[()], ""


@st.composite
def _float_fill(draw: st.DrawFn, dtype: np.dtype[Any], *, payloads: bool) -> tuple[Any, Any]:
    bits = np.dtype(f"u{dtype.itemsize}")
    quiet = int(np.array(np.nan, dtype.newbyteorder("=")).view(bits))
    choices: list[tuple[Any, Any]] = [(0.0, 0.0), (-0.0, -0.0), (1.5, 1.5), (np.nan, "NaN"), (np.inf, "Infinity")]
    if payloads:
        payload = quiet | 5
        value = np.array(payload, bits).view(dtype.newbyteorder("="))[()]
        choices.append((value, f"0x{payload:0{2 * dtype.itemsize}x}"))
    value, written = draw(st.sampled_from(choices))
    return np.asarray(value, dtype.newbyteorder("="))[()], written


@st.composite
def _v2(
    draw: st.DrawFn,
    shape: Sequence[int],
    chunks: Sequence[int],
    _: Sequence[int] | None,
    dtype: np.dtype[Any],
    fill: Any,
) -> Document:
    compressors = [
        None,
        {"id": "zstd", "level": 1},
        {"id": "gzip", "level": 1},
        {"id": "zlib", "level": 1},
        {"id": "bz2", "level": 1},
        {"id": "lz4", "acceleration": 1},
        {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
        {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 0},
    ]
    filters: list[Any] = [None, None, None, [{"id": "shuffle", "elementsize": dtype.itemsize}]]
    if dtype.kind in _INTEGERS:
        filters.append([{"id": "delta", "dtype": dtype.str, "astype": dtype.str}])
    separator = draw(st.sampled_from([None, ".", "/"]))
    return {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": list(chunks),
        "dtype": dtype.str,
        "compressor": draw(st.sampled_from(compressors)),
        "filters": draw(st.sampled_from(filters)),
        "order": draw(st.sampled_from("CF")),
        "fill_value": fill,
    } | ({} if separator is None else {"dimension_separator": separator})


@st.composite
def _v3(
    draw: st.DrawFn, shape: Sequence[int], whole: Sequence[int], inner: Sequence[int] | None, dtype: Any, fill: Any
) -> Document:
    codecs = draw(_codecs(whole if inner is None else inner, dtype))
    if inner is not None:
        if draw(st.integers(0, 5)) == 0:  # a shard within a shard
            codecs = [_sharding(draw(_divisors(inner)), codecs, draw(_indexes()))]
        codecs = [_sharding(inner, codecs, draw(_indexes()))]
    encoding = draw(st.sampled_from(["default", "v2"]))
    given_separator = draw(st.sampled_from([None, ".", "/"]))
    configuration = {} if given_separator is None else {"configuration": {"separator": given_separator}}
    scale = draw(st.sampled_from([0.5, 0.5, 0.5, 0.5, 0.5, np.nan]))  # of which NaN will stand bare
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": _type_name(dtype),
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(whole)}},
        "chunk_key_encoding": {"name": encoding} | configuration,
        "fill_value": fill,
        "codecs": codecs,
        "attributes": {"scale": [scale, 1]},
        "storage_transformers": [],
    } | draw(st.sampled_from([{}, {"extra": {"must_understand": False, "name": "extra"}}]))


def _type_name(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "Mm":
        unit, factor = np.datetime_data(dtype)
        name = "numpy.datetime64" if dtype.kind == "M" else "numpy.timedelta64"
        return {"name": name, "configuration": {"unit": unit, "scale_factor": factor}}
    if dtype.kind == "S":
        return {"name": "null_terminated_bytes", "configuration": {"length_bytes": dtype.itemsize}}
    if dtype.kind == "U":
        return {"name": "fixed_length_utf32", "configuration": {"length_bytes": dtype.itemsize}}
    return f"r{8 * dtype.itemsize}" if dtype.kind == "V" else dtype.name


def _named(name: str, **configuration: Any) -> Document:
    return {"name": name, "configuration": configuration}


@st.composite
def _codecs(draw: st.DrawFn, shape: Sequence[int], dtype: np.dtype[Any]) -> list[Document]:
    """Return codecs of chunks: to arrays, to bytes, and of bytes."""
    before: list[list[Document]] = [[], [], [_named("transpose", order=draw(st.permutations(range(len(shape)))))]]
    if dtype.kind in _INTEGERS:
        before.append([_named("numcodecs.delta", dtype=dtype.str, astype=dtype.str)])
    endian = {} if dtype.itemsize == _ONE_BYTE else {"endian": draw(st.sampled_from(["little", "big"]))}
    blosc = {"clevel": 5, "typesize": dtype.itemsize, "blocksize": 0}
    after: list[list[Document]] = [
        [],
        [_named("zstd", level=1, checksum=draw(st.booleans()))],
        [_named("gzip", level=1)],
        [_named("blosc", cname="lz4", shuffle="shuffle", **blosc)],
        [_named("blosc", cname="zstd", shuffle="bitshuffle", **blosc)],
        [_named("zstd", level=1, checksum=False), {"name": "crc32c"}],
        [{"name": "crc32c"}],
        [_named("numcodecs.bz2", level=1)],
        [_named("numcodecs.lz4", acceleration=1)],
        [_named("numcodecs.zlib", level=1)],
        [_named("numcodecs.shuffle", elementsize=dtype.itemsize), _named("zstd", level=1, checksum=False)],
    ]
    to_bytes = _named("bytes", **endian) if endian else {"name": "bytes"}
    return [*draw(st.sampled_from(before)), to_bytes, *draw(st.sampled_from(after))]


@st.composite
def _divisors(draw: st.DrawFn, shape: Sequence[int]) -> list[int]:
    return [draw(st.sampled_from([part for part in range(1, size + 1) if size % part == 0])) for size in shape]


@st.composite
def _indexes(draw: st.DrawFn) -> Document:
    endian = draw(st.sampled_from(["little", "little", "big"]))
    checksum = [{"name": "crc32c"}] if draw(st.booleans()) else []
    index = {"index_codecs": [_named("bytes", endian=endian), *checksum]}
    return index | draw(st.sampled_from([{}, {"index_location": "start"}, {"index_location": "end"}]))


def _sharding(inner: Sequence[int], codecs: list[Document], index: Document) -> Document:
    return _named("sharding_indexed", chunk_shape=list(inner), codecs=codecs, **index)


def _random(random: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Return elements of any bits that the type can have: NaN with payloads too."""
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(bool)
    if dtype.kind == "U":
        return random.choice(np.array(["", "a", "漢", "b😀"], dtype), shape)
    if dtype.kind == "S":
        return random.choice(np.array([b"", b"a", b"\0b", b"abc"], dtype), shape)
    size = int(np.prod(shape)) * dtype.itemsize
    return np.frombuffer(random.bytes(size), dtype).reshape(shape)


# --- what readers make of it


class Readers:
    """A process of each reader, which all cases share."""

    def __init__(self) -> None:
        self._workers = {name: WorkerProcess(reader_class(name)) for name in READERS}

    def outcome(self, name: str, work: Workload) -> tuple[str, str]:
        """Return what a reader makes of a workload, and why."""
        worker = self._workers[name]
        try:
            opened = worker.require({"op": "open", "workload": msgspec.to_builtins(work)}, timeout=OPEN_SECONDS)
            sample = {"op": "sample", "variant": opened["variants"][0]}
            worker.require(sample, timeout=turn_deadline(work))
        except UnsupportedError as reason:
            return NA, str(reason)
        except WrongDataError as reason:
            return WRONG, str(reason)
        except MeasurementError as reason:
            return FAILED, str(reason)
        return RIGHT, ""

    def stop(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.stop()


@contextlib.contextmanager
def readers() -> Iterator[Readers]:
    """Yield every reader, each in a process of its own."""
    started = Readers()
    try:
        yield started
    finally:
        started.stop()


def run(case: Case, number: int, target: Target, everyone: Readers, found: Outcomes) -> None:
    """Store a case below the target, read it by everyone, and add what came of it."""
    objects = _written(case)
    if objects is None:
        found.unwritten += 1
        return
    folder = f"grid/{number}-{os.getpid()}"
    store = open_store(target)
    for key, body in objects.items():
        obstore.put(store, f"{folder}/{case.place}/{key}", body)
    try:
        work = _workload(case, msgspec.structs.replace(target, url=f"{target.url}/{folder}"))
    except ZcbError as error:
        if "do not fit" not in str(error) and "are not stored" not in str(error):
            found.bad.append(f"no workload: {error}: {case}")
        return
    found.cases += 1
    refused = _not_kept(work.target, case.place, objects)
    for name in READERS:
        is_kept = refused is None or name in OF_ARRAYS
        outcome, reason = everyone.outcome(name, work) if is_kept else (NA, refused or "")
        found.counts[name][outcome] += 1
        if outcome == NA:
            found.reasons[name][reason[:120]] += 1
        elif outcome != RIGHT:
            found.bad.append(f"{name}: {outcome}: {reason}: {case}")


def _not_kept(target: Target, key: str, objects: Mapping[str, bytes]) -> str | None:
    """Write an array's objects into an Icechunk repository beside it; return why Icechunk does not take them, if so."""
    from zarr.core.buffer.cpu import Buffer

    async def kept(store: icechunk.IcechunkStore) -> None:
        for name in sorted(objects, key=lambda name: name not in METADATA_NAMES.values()):  # before what they describe
            await store.set(name, Buffer.from_bytes(objects[name]))

    session = icechunk.Repository.create(icechunk_storage(target, key)).writable_session(BRANCH)
    try:
        asyncio.run(kept(session.store))
        session.commit(key)
    except (icechunk.IcechunkError, ValueError) as error:
        return f"icechunk does not take it: {' '.join(str(error).partition('context:')[0].split())}"
    return None


def _written(case: Case) -> dict[str, bytes] | None:
    """Return a case's objects, by the library that it names or else by the other; None where neither writes it."""
    for writer in sorted(stored.WRITERS, key=lambda name: name != case.writer):
        try:
            return stored.write(case.document, case.values, case.objects, writer=writer)
        except Exception:  # noqa: S112 - whatever a library raises: the other is asked
            continue
    return None


def _workload(case: Case, target: Target) -> Workload:
    """Return the case's pattern on its array, whose truth is numpy's."""

    def by_numpy(work: Workload) -> Truth:
        arrays = [case.values[tuple(slice(*axis) for axis in read)] for read in work.reads]
        return Truth(reads_crc32c=checksums(work.array, work.reads, arrays), agreed_by=("numpy",))

    return create_workload(case.pattern, target, array=case.place, parameters=case.asked, agree=by_numpy)


_CASE_NUMBERS = itertools.count()
"""Of all cases of this process: none finds what another one has left at the store."""


def run_many(count: int, target: Target, everyone: Readers, *, seed: int = 0) -> Outcomes:
    """Run so many cases, the same ones for a seed."""
    found = Outcomes()

    @seeded(seed)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def each(case: Case) -> None:
        run(case, next(_CASE_NUMBERS), target, everyone, found)

    each()
    return found


def table(found: Outcomes) -> list[str]:
    """Return the outcomes as lines of a table in Markdown, a row per reader."""
    kinds = (RIGHT, NA, WRONG, FAILED)
    lines = [f"| reader | {' | '.join(kinds)} |", "|---|" + "---:|" * len(kinds)]
    for name, counts in found.counts.items():
        lines.append(f"| `{name}` | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    return lines


@click.command()
@click.option("--cases", "count", default=300, show_default=True, help="Arrays that are made.")
@click.option("--seed", default=0, show_default=True, help="Of the arrays.")
@click.option("--target", default="embedded", show_default=True, help="Where they are written.")
def main(count: int, seed: int, target: str) -> None:
    """Print the table of readers, the reasons of what they could not, and what was wrong."""
    place = resolve(target)
    ensure_bucket(place)
    with readers() as everyone:
        found = run_many(count, place, everyone, seed=seed)
    click.echo("\n".join(table(found)))
    click.echo(f"{found.cases} arrays, and {found.unwritten} that neither library writes")
    for name, reasons in found.reasons.items():
        for reason, times in reasons.most_common():
            click.echo(f"{times:5} {name}: {reason}", err=True)
    for line in found.bad:
        click.echo(line, err=True)
    sys.exit(1 if found.bad else 0)


if __name__ == "__main__":
    main()

"""Data sets once more as Icechunk repositories, beside them: the same shards, object by object.

Icechunk and zarr-python are imported where they are used: every command imports this module.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import google_crc32c
import obstore
from obstore.store import ObjectStore

from harness.datasets.manifest import DatasetSpec, Manifest, read
from harness.errors import BadUseError, StoreError
from harness.machine.environment import direct
from harness.targets.client import open_store
from harness.targets.icechunk import BRANCH, SUFFIX, icechunk_storage
from harness.targets.target import Target
from setup_data.encode import shard_key, shards
from setup_data.write import Advance, Report

if TYPE_CHECKING:
    import icechunk

_IDENTITY = "manifest_crc32c"
"""The snapshot's property that says of which data set it is."""

_AT_ONCE = 16
_BUDGET = 1 << 30
"""Bytes of shards held at once."""


def write(target: Target, spec: DatasetSpec, *, advance: Advance = lambda _: None) -> Report:
    """Write the repository beside a finished dataset, from its shards, in one commit.

    What an interrupted run left is removed first.

    Parameters
    ----------
    target
        Where the dataset stands.
    spec
        The dataset.
    advance
        Told the decoded bytes of each stored shard.

    Raises
    ------
    BadUseError
        The dataset is not there, or the repository is of another one.
    StoreError
        The store failed or refused.
    """
    import icechunk

    store = open_store(target)
    key = spec.key + SUFFIX
    manifest = read(store, spec.key + Manifest.SUFFIX)
    if manifest is None:
        raise BadUseError(f"there is no {spec.key} to make {key} of")
    identity = google_crc32c.value(manifest)
    count = math.prod(spec.shard_grid)
    report = Report(dataset=key, status="written", shards=count, skipped_shards=0, decoded_bytes=spec.nbytes)
    with _telling(target), direct():
        storage = icechunk_storage(target, spec.key)
        found = _identity(storage)
        if found == identity:
            report.status = "already written"
            advance(spec.nbytes)
            return report
        if found is not None:
            raise BadUseError(f"{key} was made of another {spec.key}: replace it with --overwrite")
        remove(store, spec)
        started = time.perf_counter()
        # Each shard is an object of its own, however small: Icechunk would put the smallest into its manifest.
        made = icechunk.Repository.create(storage, icechunk.RepositoryConfig(inline_chunk_threshold_bytes=0))
        session = made.writable_session(BRANCH)
        report.stored_bytes = asyncio.run(_copy(store, spec, session.store, advance))
        session.commit(spec.key, {_IDENTITY: identity})
    report.seconds = time.perf_counter() - started
    report.ratio = spec.nbytes / report.stored_bytes
    report.write_mb_s = report.stored_bytes / report.seconds / 1e6
    return report


def remove(store: ObjectStore, spec: DatasetSpec) -> None:
    """Remove the repository beside a dataset, finished or not.

    Parameters
    ----------
    store
        Root of the target.
    """
    for batch in obstore.list(store, f"{spec.key}{SUFFIX}/"):
        obstore.delete(store, [meta["path"] for meta in batch])


def _identity(storage: "icechunk.Storage") -> object | None:
    """Return what the newest commit says of the data set; None where there is no commit."""
    import icechunk

    if not icechunk.Repository.exists(storage):
        return None
    newest = next(iter(icechunk.Repository.open(storage).ancestry(branch=BRANCH)))
    return None if newest.parent_id is None else newest.metadata.get(_IDENTITY, newest.message)


async def _copy(store: ObjectStore, spec: DatasetSpec, repository: "icechunk.IcechunkStore", advance: Advance) -> int:
    """Copy metadata and shards, several at once, and return the bytes of the shards."""
    from zarr.core.buffer.cpu import Buffer

    turns = asyncio.Semaphore(max(1, min(_AT_ONCE, _BUDGET // spec.shard_nbytes)))
    above = f"{spec.key}/"

    async def copied(key: str) -> int:
        body = bytes(await (await obstore.get_async(store, key)).bytes_async())
        await repository.set(key.removeprefix(above), Buffer.from_bytes(body))
        return len(body)

    async def shard(key: str) -> int:
        async with turns:
            nbytes = await copied(key)
        advance(spec.shard_nbytes)
        return nbytes

    await copied(f"{above}zarr.json")  # what Icechunk has to know before it takes a shard
    return sum(await asyncio.gather(*(shard(shard_key(spec, position)) for position in shards(spec))))


@contextlib.contextmanager
def _telling(target: Target) -> Iterator[None]:
    """Turn errors of Icechunk inside the block into one line with exit code 3."""
    import icechunk

    try:
        yield
    except icechunk.IcechunkError as error:
        said = " ".join(str(error).partition("context:")[0].split())
        raise StoreError(f"{target.url}: {said}") from error

"""Shards spread over an existing dask.distributed cluster: the same bytes, ledger and manifest as from one machine.

Each shard is a task that encodes and stores it where it runs; only its checksums come back. They are recorded, and the
parts, the manifest and ``zarr.json`` stored, by the process that hands the tasks out, so that a run resumes as a local
one does. Credentials do not travel: each worker takes those of its own standard chain.
"""

import asyncio
import functools
import itertools
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from obstore.store import ObjectStore

from harness.datasets.manifest import VERSION, DatasetSpec
from harness.errors import BadUseError, StoreError, ZcbError
from harness.targets.client import reaching
from harness.targets.target import Target
from setup_data.encode import Coordinates, EncodedShard
from setup_data.ledger import Ledger
from setup_data.write import Advance, Numbered, open_to_write, store_shard

if TYPE_CHECKING:
    from distributed import Client, Future

_SCHEMES = ("tcp", "tls")
_CONNECT_SECONDS = 5.0
_IDLE_SECONDS = 60.0
"""Without any shard stored for so long, the cluster is asked whether it still has workers."""


class Cluster:
    """A dask.distributed cluster that encodes and stores shards; use it as a context manager.

    Parameters
    ----------
    address
        The scheduler's, as dask writes it: ``tcp://host:8786``, ``tls://..``, ``host:8786``.
    target
        Where the shards go; every worker must reach it by the same address.
    in_flight
        Shards that are in the cluster's hands at once.

    Raises
    ------
    BadUseError
        dask.distributed is not installed, or no such kind of address.
    StoreError
        The scheduler cannot be reached, or has no workers.
    """

    def __init__(self, address: str, target: Target, *, in_flight: int) -> None:
        self._address = address
        self._target = target
        self._in_flight = in_flight
        self._client = _connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(timeout=_CONNECT_SECONDS)

    def store_shards(self, ledger: Ledger, remaining: Iterator[Numbered], advance: Advance) -> None:
        """Have shards stored and record them, as `setup_data.write.StoreShards` demands; the first error ends all.

        A worker that dies costs only its shards' time: dask gives them to another one.

        Raises
        ------
        BadUseError
            A worker's packages would write other bytes.
        StoreError
            The object store, the scheduler or the workers are gone or refuse.
        """
        waiting: dict[Future[EncodedShard], int] = {}
        try:
            while True:
                for number, shard in itertools.islice(remaining, self._in_flight - len(waiting)):
                    waiting[self._submit(ledger.spec, shard)] = number
                if not waiting:
                    return
                for future in self._done(waiting):
                    number = waiting.pop(future)
                    ledger.keep(number, self._result(future))
                    advance(ledger.spec.shard_nbytes)
        finally:
            if waiting and self._client.status == "running":
                self._client.cancel(list(waiting))

    def _submit(self, spec: DatasetSpec, shard: Coordinates) -> "Future[EncodedShard]":
        return self._client.submit(_task, self._target, spec, shard, _makers(), key=None, pure=False)

    def _done(self, waiting: Mapping["Future[EncodedShard]", int]) -> set["Future[EncodedShard]"]:
        """Return the futures that are done, at least one."""
        from distributed import wait

        while True:
            try:
                done: set[Future[EncodedShard]] = wait(
                    list(waiting), timeout=_IDLE_SECONDS, return_when="FIRST_COMPLETED"
                ).done
                return done
            except TimeoutError:
                _demand_workers(self._client, self._address)
            except CancelledError as error:
                raise self._lost() from error

    def _result(self, future: "Future[EncodedShard]") -> EncodedShard:
        """Return what a task returned, or raise its error as one line."""
        from distributed import KilledWorker

        try:
            encoded: EncodedShard = future.result()
        except ZcbError:
            raise
        except CancelledError as error:
            raise self._lost() from error
        except KilledWorker as error:
            raise StoreError(
                f"dask workers died over the same shard: {error.allowed_failures + 1} of them; "
                "look at their logs, and give each more memory or fewer threads"
            ) from error
        except Exception as error:  # whatever a worker's libraries raise
            raise StoreError(f"a dask worker failed: {type(error).__name__}: {error}") from error
        return encoded

    def _lost(self) -> StoreError:
        return StoreError(f"the dask scheduler at {self._address} is gone: start it and run the same command to resume")


def _connect(address: str) -> "Client":
    _demand_address(address)
    try:
        from distributed import Client, Security
    except ImportError as error:
        raise BadUseError(
            "--dask needs dask.distributed, which is not installed: run `pip install distributed`"
        ) from error
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it has to say is said here, in a line
    if address.startswith("tls:") and not Security().get_connection_args("client")["ssl_context"]:
        raise BadUseError(f"{address} needs a certificate: set distributed.comm.tls in dask's configuration")
    try:
        client = Client(address, timeout=_CONNECT_SECONDS)
    except OSError as error:  # TimeoutError is one
        raise StoreError(f"cannot reach a dask scheduler at {address}: is it running (`dask scheduler`)?") from error
    try:
        _demand_workers(client, address)
    except StoreError:
        client.close()
        raise
    return client


def _demand_address(address: str) -> None:
    """Refuse what dask would take for an order to start a cluster here, or stumble over."""
    scheme, _, place = address.rpartition("://")
    try:
        parts = urlsplit(f"//{place}")
        good = scheme in ("", *_SCHEMES) and parts.hostname and parts.port and parts.netloc == place
    except ValueError:
        good = False
    if not good:
        raise BadUseError(f"{address[:80]!r} is not the address of a dask scheduler, such as tcp://127.0.0.1:8786")


def _demand_workers(client: "Client", address: str) -> None:
    if not client.scheduler_info()["workers"]:
        raise StoreError(f"the dask scheduler at {address} has no workers: start some (`dask worker {address}`)")


def _makers() -> dict[str, str]:
    """Return what decides a shard's bytes besides its spec: the version of the format and of the codecs' library."""
    return {"the data format": str(VERSION), "numcodecs": version("numcodecs")}


@functools.cache
def _store_of(target: Target) -> ObjectStore:
    """Return the store of `target`, the same for all tasks of a process, so that connections are kept."""
    return open_to_write(target)


def _task(target: Target, spec: DatasetSpec, shard: Coordinates, makers: Mapping[str, str]) -> EncodedShard:
    """Encode and store one shard; runs in a worker of the cluster, in one of its threads."""
    for name, here in _makers().items():
        if makers[name] != here:
            raise BadUseError(f"a dask worker has {name} {here} instead of {makers[name]}: install the same version")
    with reaching(target), ThreadPoolExecutor(1) as encoder:  # dask counts one thread for a task
        return asyncio.run(store_shard(_store_of(target), spec, shard, encoder))

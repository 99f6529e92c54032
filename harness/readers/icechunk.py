"""Icechunk: zarr-python over the session of a repository, which holds the array beside the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from harness.errors import UnsupportedError
from harness.readers.base import Reader
from harness.readers.settings import IN_FLIGHT, TOKIO_THREADS, Setting
from harness.readers.zarr_python import ZARR_SETTINGS, ZarrPython

if TYPE_CHECKING:
    from harness.workload.model import Workload

_REPOSITORY = "icechunk.RepositoryConfig"
_CONCURRENCY = "icechunk.StorageConcurrencySettings"


class IcechunkReader(ZarrPython):
    """A read-only session of the branch ``main``: its snapshot, and the manifest that says where each shard stands.

    Both are fetched when the array is opened, and the session keeps them; Icechunk keeps no chunk. Objects of a
    repository have names that zarr-python does not know: the store counts requests, and there is no timeline.
    """

    name = "icechunk"
    packages = ("icechunk", "zarr", "numcodecs", "numpy")
    rank = 36
    layer_over = "zarr-python+obstore"
    stored_as = "icechunk"
    client = "icechunk"
    counts_requests = False
    records_timelines = False
    timeline = Reader.timeline
    settings: ClassVar[tuple[Setting, ...]] = (
        *ZARR_SETTINGS,
        Setting(
            name="max_concurrent_requests",
            of=_REPOSITORY,
            default=IN_FLIGHT,
            values=(32,),
            meaning="Requests of the repository under way at once.",
        ),
        Setting(
            name="ideal_concurrent_request_size",
            of=_CONCURRENCY,
            default="12 MiB",
            values=(1 << 20, 4 << 20, 64 << 20),
            meaning="Bytes of a part, where what is asked for is fetched in several.",
        ),
        Setting(
            name="max_concurrent_requests_for_object",
            of=_CONCURRENCY,
            default="18",
            values=(1, IN_FLIGHT),
            meaning="Parts that are fetched at once.",
        ),
        TOKIO_THREADS,
    )

    def _store(self, workload: Workload) -> Any:
        try:
            import icechunk
        except ImportError as error:
            raise UnsupportedError(f"icechunk cannot be imported: {error}") from error
        from zarr.core.sync import sync

        from harness.targets.icechunk import BRANCH, SUFFIX, icechunk_storage

        repository: dict[str, Any] = {"max_concurrent_requests": workload.in_flight, **self.chosen_of(_REPOSITORY)}
        of_parts: dict[str, Any] = self.chosen_of(_CONCURRENCY)
        parts = icechunk.StorageConcurrencySettings(**of_parts)
        config = icechunk.RepositoryConfig(storage=icechunk.StorageSettings(concurrency=parts), **repository)
        try:
            opened = icechunk.Repository.open(icechunk_storage(workload.target, workload.array.key), config=config)
        except icechunk.RepositoryNotFoundError as error:
            raise UnsupportedError(
                f"there is no repository at {workload.array.key}{SUFFIX}: `zcb data create --as icechunk` writes it"
            ) from error
        store = opened.readonly_session(BRANCH).store
        first = [0] * len(workload.array.shape)
        sync(store.exists(workload.array.object_key(first)))  # it takes the manifest to know
        return store

"""The arms by name; light to import, since asv starts a process per combination of parameters that imports it."""

from dataclasses import dataclass

from harness.errors import unknown
from harness.readers import all_readers, benchmarked
from harness.results.sample import NETWORK_LIMIT

MEMORY = "memory"
"""The arm that feeds from RAM: the loop's own ceiling."""

CACHE_POOL = "tensorstore-cache-pool"
"""The arm that keeps chunks too: tensorstore with a cache pool, as it is often used."""

POOL_BYTES = 1 << 30
"""Of the cache pool of each data set."""


@dataclass(frozen=True)
class Loading:
    """How torch's ``DataLoader`` loads."""

    workers: int
    start: str = ""
    """How its processes are started; empty without any."""

    @property
    def name(self) -> str:
        """The arm's, e.g. ``dataloader-8-spawn``."""
        return "-".join(filter(None, ("dataloader", str(self.workers), self.start)))


LOADINGS = {
    how.name: how
    for how in (
        Loading(0),
        Loading(2, "spawn"),
        Loading(2, "forkserver"),
        Loading(8, "spawn"),
        Loading(8, "forkserver"),
    )
}
"""The arms of ``DataLoader`` by name."""


def of_readers() -> list[str]:
    """Return the arms that are readers, each by its own concurrency."""
    return [name for name in benchmarked() if name != NETWORK_LIMIT and all_readers()[name].reads_one]


def settings(name: str) -> dict[str, int | str]:
    """Return what an arm sets that decides its figures, by the library's own names; empty for most."""
    if name == CACHE_POOL:
        return {"cache_pool.total_bytes_limit": POOL_BYTES}
    if name not in LOADINGS:
        return {}
    how = LOADINGS[name]
    return {"num_workers": how.workers} | ({"multiprocessing_context": how.start} if how.start else {})


def names() -> list[str]:
    """Return the arms, in the order in which tables show them."""
    return [MEMORY, *of_readers(), CACHE_POOL, *LOADINGS]


def check(name: str) -> str:
    """Return the name of an arm; a BadUseError lists the choices."""
    if name not in names():
        raise unknown("arm", name, names())
    return name

"""What a run costs before it starts, and a TiB read afterwards; from the dated table cloud/prices.toml."""

import datetime
import math
import statistics
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from harness.datasets.manifest import DatasetSpec
from harness.errors import BadUseError
from harness.paths import shipped
from harness.results.sample import Sample

PRICES = shipped("prices.toml")

_TIB = 2**40
_GB = 1e9
_SECONDS_PER_HOUR = 3600.0
_DAYS_PER_MONTH = 30.0
_OBJECTS_BESIDE_SHARDS = 2  # the array's metadata and its manifest

Price = Annotated[float, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class StoragePrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an object store charges, in dollars."""

    scheme: str
    region: str
    get_per_1000: Price
    put_per_1000: Price
    gb_month: Price
    same_region_gb: Price
    other_region_gb: Price
    gets_per_second: Positive
    """What a prefix is good for; no price, but it bounds what can be spent on GETs in an hour."""
    read: datetime.date
    source: str


class VmPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a type of VM costs."""

    type: str
    cloud: Literal["aws", "gcp"]
    region: str
    dollars_per_hour: Positive
    gbit_s: Positive
    read: datetime.date
    source: str


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table."""

    storage: list[StoragePrice]
    vm: list[VmPrice]

    def of_storage(self, scheme: str) -> StoragePrice:
        """Return the prices of a scheme such as ``s3``; a BadUseError says which there are."""
        for row in self.storage:
            if row.scheme == scheme:
                return row
        raise BadUseError(
            f"no prices of {scheme}:// in {PRICES.name}: it has {', '.join(r.scheme for r in self.storage)}"
        )

    def of_vm(self, kind: str) -> VmPrice:
        """Return the price of a type of VM; a BadUseError says which there are."""
        for row in self.vm:
            if row.type == kind:
                return row
        raise _unlisted(f"price of the VM {kind!r}", [row.type for row in self.vm])


def _unlisted(what: str, known: Sequence[str]) -> BadUseError:
    return BadUseError(f"no {what} in cloud/{PRICES.name}, which has {', '.join(known)}: add a row")


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What a run costs at most, in dollars, if it is shut down in time."""

    vm: float
    puts: float
    gets: float
    """If the VM did nothing but ask for objects, as many a second as one prefix is good for."""
    storage_per_day: float
    """Of the data sets uncompressed; it goes on until they are deleted."""
    total: float
    """VM, requests and one day of storage."""
    put_requests: int
    stored_gb: float


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Dollars per TiB of the final array."""

    requests: float
    vm: float
    total: float


def load_prices(path: Path = PRICES) -> Prices:
    """Return the table of prices.

    Raises
    ------
    BadUseError
        It cannot be read, or a row lacks something or has a negative price.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), Prices)
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise BadUseError(f"{path}: {error}") from error


def expect(specs: Sequence[DatasetSpec], hours: float, vm: VmPrice, storage: StoragePrice) -> Expected:
    """Return what it costs at most to write `specs` and to measure on `vm` for `hours`.

    Traffic is not in it: it is free between VM and bucket of one region, which `zcb doctor --target` checks.
    """
    puts = sum(math.prod(spec.shard_grid) + _OBJECTS_BESIDE_SHARDS for spec in specs)
    stored_gb = sum(spec.nbytes for spec in specs) / _GB
    parts = {
        "vm": hours * vm.dollars_per_hour,
        "puts": puts / 1000 * storage.put_per_1000,
        "gets": hours * _SECONDS_PER_HOUR * storage.gets_per_second / 1000 * storage.get_per_1000,
        "storage_per_day": stored_gb * storage.gb_month / _DAYS_PER_MONTH,
    }
    return Expected(**parts, total=sum(parts.values()), put_requests=puts, stored_gb=stored_gb)


def spent(samples: Sequence[Sample], vm: VmPrice, storage: StoragePrice) -> Spent | None:
    """Return the median cost of reading a TiB as `samples` did; None where nobody counted their requests.

    Every request of a read counts as a GET, which HEADs and GETs of indexes cost too.
    """
    requests = [
        sample.requests / 1000 * storage.get_per_1000 * _TIB / sample.array_bytes
        for sample in samples
        if sample.requests is not None
    ]
    times = [sample.seconds / _SECONDS_PER_HOUR * vm.dollars_per_hour * _TIB / sample.array_bytes for sample in samples]
    if not times or len(requests) != len(times):
        return None
    both = [a + b for a, b in zip(requests, times, strict=True)]
    return Spent(requests=statistics.median(requests), vm=statistics.median(times), total=statistics.median(both))

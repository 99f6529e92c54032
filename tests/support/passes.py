"""Pass records that look like a run: several readers, workloads, versions and reasons, from a seeded generator."""

import random

from harness.results.records import SCHEMA, PassRecord, RowRecord
from harness.results.sample import NETWORK_LIMIT, Sample

MIB = 2**20
READERS = {
    "zarr-python+fsspec": 2.4,
    "zarr-python+obstore": 1.9,
    "zarr-python+obstore+fused": 1.5,
    "zarrs-python+obstore": 6.0,
    "tensorstore": 1.15,
    "zarrista": 1.3,
    "zarrs": 3.1,
    "zarrs-planned": 1.08,
}
"""Reader -> how many times slower than the network limit it is made."""
WORKLOADS = {
    "whole_array small": (0.9, 8192, 128, 256 * MIB),
    "chunks_of_one_shard small gap=0": (0.041, 4, 1, MIB // 8),
    "chunks_of_one_shard small gap=15": (0.042, 4, 1, MIB // 8),
    "chunks_of_many_shards small shards=64": (0.08, 256, 64, 8 * MIB),
}
"""Label -> the limit's seconds, wanted chunks and shards, bytes of the final array."""


def sample(seconds, limit, array_bytes, **fields):
    known = {
        "calls": 1,
        "requests": 10,
        "index_requests": 2,
        "head_requests": 0,
        "retries": 0,
        "requests_source": "reader",
        "fetched_bytes": array_bytes // 2,
        "nic_rx_bytes": None,
        "nic_rx_packets": None,
        "cpu_seconds": seconds / 3,
        "store_cpu_seconds": seconds / 5,
        "peak_rss_bytes": 150 * MIB + array_bytes,
        "max_in_flight": 98,
        "new_connections": 0,
        "flags": [],
        "verified": True,
    }
    return Sample(seconds=seconds, limit_seconds=limit, array_bytes=array_bytes, **(known | fields))


def row(reader, label, samples, *, na=None, error=None, versions=None, in_flight=100):
    _, chunks, shards, size = WORKLOADS[label]
    return RowRecord(
        reader=reader,
        dataset="small",
        parameters={},
        label=label,
        digest=f"{abs(hash(label)):016x}"[:16],
        in_flight=in_flight,
        array_bytes=size,
        wanted_bytes=size // 2,
        wanted_chunks=chunks,
        wanted_shards=shards,
        reads=16,
        versions={"library": "1.2.3"} if versions is None else versions,
        na=na,
        error=error,
        samples=samples,
    )


def rows(label, rounds, *, chance, factors, drift=1.0):
    """Return rows of one workload: readers by their factor over the limit, whose samples are one more per turn."""
    base, _, _, size = WORKLOADS[label]
    found = []
    for reader, factor in factors.items():
        samples = []
        for _ in range(rounds):
            limit = base * drift * chance.uniform(0.98, 1.02)
            flags = ["cpu-bound"] if label.startswith("whole") else []
            flags += ["new-connections"] if chance.random() < 0.1 else []
            samples.append(sample(limit * factor * chance.uniform(0.97, 1.05), limit, size, flags=flags))
        found.append(row(reader, label, samples))
    limits = [base * drift * chance.uniform(0.98, 1.02) for _ in range(rounds * len(factors) + 1)]
    found.append(row(NETWORK_LIMIT, label, [sample(seconds, None, size) for seconds in limits]))
    return found


def record(version, found, *, pattern="ChunksOfOneShard", date_ms=1, target="embedded:s3", **fields):
    known = {
        "schema": SCHEMA,
        "commit": (version.encode().hex() * 40)[:40],
        "commit_name": version,
        "env_name": "virtualenv-py3.13",
        "settings": {"ZCB_TARGET": target, "ZCB_PRESET": "demo"},
        "packages": {"zarr": version.removeprefix("v")},
        "python": "3.13.1",
        "machine": "box",
        "cpu": "A Processor",
        "cores": 2,
        "started": "2026-11-24T02:00:00+00:00",
        "rounds": 15,
        "budget_seconds": None,
    }
    return PassRecord(pattern=pattern, date_ms=date_ms, target=target, rows=found, **(known | fields))


PATTERNS = {"whole_array": "WholeArray", "chunks_of_one_shard": "ChunksOfOneShard"}


def run(*, rounds=15, seed=3, drift=1.12, extra=None):
    """Return passes of two versions and, for the newer one, of a second target; the machine drifts by `drift`."""
    chance = random.Random(seed)
    found = []
    for number, (version, speed, moved) in enumerate([("v3.2.1", 1.8, 1.0), ("v3.3.0", 1.0, drift)]):
        for target in ["embedded:s3", "embedded:loopback"][: number + 1]:
            factors = {n: f * (speed if n.startswith("zarr-python") else 1) for n, f in READERS.items()} | (extra or {})
            by_pattern = {}
            for label in WORKLOADS:
                made = rows(label, rounds, chance=chance, factors=factors, drift=moved)
                by_pattern.setdefault(label.partition(" ")[0], []).extend(made)
            for pattern, of in by_pattern.items():
                name = "".join(word.capitalize() for word in pattern.split("_"))
                found.append(record(version, give_up(of, version), pattern=name, date_ms=number + 1, target=target))
    return found


NA = "this version has no fused pipeline: it came with zarr 3.3.0"
FAILED = "GET data/c/0/0: 503 Slow Down"


def give_up(found, version):
    """Let one reader be unable before 3.3.0, and another fail on one workload."""
    for each in found:
        if each.reader == "zarr-python+obstore+fused" and version == "v3.2.1":
            yield_ = row(each.reader, each.label, [], na=NA)
        elif each.reader == "zarrista" and each.label == "chunks_of_one_shard small gap=15":
            yield_ = row(each.reader, each.label, [], error=FAILED)
        else:
            continue
        found[found.index(each)] = yield_
    return found

"""The least that the embedded store's service time leaves: what no client can be faster than at its rates.

The store lets what an idle link saves up in a millisecond pass at once, and the kernel a packet of 64 KiB of each
connection: so a read may end some tenths of a millisecond below its floor.

Each read waits for a first byte twice, for its index and for its data in any ranges, or once where a request brings a
whole shard. What many shards wait for is the longest of their waits. The bytes pass the link and the connections in
flight. Reads under way at once may share what they want alike, so one that begins after another's end waits only for
what no other read wants. What decoding, the CPU and the network itself cost is not in it: the difference to the
measured network limit is that.
"""

import collections
import math

import msgspec
import numpy as np
import numpy.typing as npt

from harness.store import state
from harness.store.state import Profile, log_normal_sigma
from harness.workload.model import Workload
from harness.workload.selections import wanted_chunks

_ROUNDS = 1000
_SEED = 0


def floor_of(workload: Workload) -> float | None:
    """Return the floor of a workload in seconds; None where its target is not the embedded store, or has no limits."""
    service = service_of(workload)
    return None if service is None else floor_seconds(workload, service)


def service_of(workload: Workload) -> Profile | None:
    """Return the service time that a workload meets, with the rate of the network; None but at the embedded store."""
    store = state.running() if workload.target.profile is not None else None
    if store is None:
        return None
    return msgspec.structs.replace(store.profile, link_gbit_s=store.profile.link_gbit_s or store.link.gbit_s)


def floor_seconds(workload: Workload, profile: Profile) -> float | None:
    """Return the least that a workload can take, in seconds: the median over rounds; None where nothing is limited.

    Parameters
    ----------
    workload
        What is read; each of its shards is asked for once, whatever reads want it. The loops of a stream fetch as many
        bytes each, and their waits for a first byte are counted for one loop: no less can be said of what overlaps.
    profile
        The store's service time, with the rate of the network.
    """
    if profile.first_byte_ms is None and profile.connection_mb_s is None and profile.link_gbit_s is None:
        return None
    shards = workload.wanted_shards
    indexes = shards * workload.array.index_nbytes
    fewest = min(workload.wanted_bytes, workload.least_bytes or workload.wanted_bytes) + indexes
    floors = [_floor(workload, profile, trips=2, nbytes=fewest)]
    if workload.object_bytes:
        whole = workload.object_bytes * (1 if workload.stream is None else workload.stream.loops)
        floors.append(_floor(workload, profile, trips=1, nbytes=whole))
    return min(floors)


def _floor(workload: Workload, profile: Profile, *, trips: int, nbytes: int) -> float:
    """Return the floor of the plans that wait `trips` times in turn for a first byte of each shard.

    With one trip a shard comes by a single request, and so over one connection.
    """
    rounds = _ROUNDS if profile.first_byte_p99_ms is not None else 1
    waits = first_bytes(profile, (rounds, trips, workload.wanted_shards))
    of_shard = waits.sum(axis=1)
    connection = profile.connection_bytes_per_second
    one_by_one = of_shard + (workload.object_bytes / workload.wanted_shards / connection if trips == 1 else 0.0)
    if workload.executed_reads <= workload.concurrent_reads:
        last = one_by_one.max(axis=1)
    elif not workload.has_reads_that_meet:
        last = math.ceil(workload.executed_reads / workload.concurrent_reads) * one_by_one.mean(axis=1)
    else:
        last = one_by_one.mean(axis=1)
        if trips > 1:  # a whole shard may come for all reads that want some of it
            later = math.ceil(_reads_of_their_own(workload) / workload.concurrent_reads) - 1
            last += max(0, later) * waits[:, -1].mean(axis=1)
    carried = of_shard.min(axis=1) + nbytes / min(profile.link_bytes_per_second, workload.in_flight * connection)
    busy = (waits.sum(axis=(1, 2)) + nbytes / connection) / workload.in_flight
    return float(np.median(np.maximum(np.maximum(last, carried), busy)))


def _reads_of_their_own(workload: Workload) -> int:
    """Return how many reads want a chunk that no other read wants."""
    wanted = [set(wanted_chunks(workload.array, read)) for read in workload.reads]
    wanting = collections.Counter(chunk for chunks in wanted for chunk in chunks)
    return sum(any(wanting[chunk] == 1 for chunk in chunks) for chunks in wanted)


def first_bytes(profile: Profile, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return an array of that shape of times to the first byte in seconds: the same ones whenever it is asked."""
    median = (profile.first_byte_ms or 0.0) / 1e3
    sigma = log_normal_sigma(profile.first_byte_ms or 0.0, profile.first_byte_p99_ms)
    normal = np.random.default_rng(_SEED).standard_normal(shape) if sigma else np.zeros(shape)
    times: npt.NDArray[np.float64] = median * np.exp(sigma * normal)
    return times

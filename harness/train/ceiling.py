"""The most samples a second that the embedded store's service time leaves an arm that fetches each by itself.

It is a simulation of the loop without a step: samples begin in order, as many at once as the workload says and no
further ahead than it allows, and each waits for the slowest of its shards, whose index and data come one after the
other. Above that stand the requests in flight and the link, which all samples share. What CPU time and the network
itself cost is not in it: the difference to what an arm feeds is that.
"""

import heapq
import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.measure.floor import first_bytes, service_of
from harness.store.state import Profile
from harness.train.batches import lead_of
from harness.workload.selections import chunks_touched
from harness.workload.training import Training

_WAITS = 40_000
"""Samples that are simulated in all: many epochs where they are short."""


def ceiling_of(training: Training) -> float | None:
    """Return the ceiling of a training workload in samples/s; None where its target is not the embedded store."""
    service = service_of(training.workloads[0])
    return None if service is None else ceiling(training, service)


def ceiling(training: Training, profile: Profile) -> float | None:
    """Return the most samples a second, the median over simulated epochs; None where nothing is limited.

    Parameters
    ----------
    training
        What is fed. What several samples want counts for each: an arm that keeps chunks, or fetches once what several
        samples under way want, may come above it.
    profile
        The store's service time, with the rate of the network.
    """
    trips = 1 if training.index == "warm" else 2
    found = [_ceiling(training, profile, trips, _partly(training, trips))]
    if all(work.object_bytes for work in training.workloads):
        found.append(_ceiling(training, profile, 1, _whole(training), by_shard=True))
    most = max(found)
    return most if math.isfinite(most) else None


def _partly(training: Training, trips: int) -> float:
    """Return the bytes of a sample where its chunks are asked for, and with two trips the indexes too."""
    chunks = sum(work.wanted_bytes for work in training.workloads) / (training.epochs * training.samples_per_epoch)
    index = statistics.mean(work.array.index_nbytes for work in training.workloads)
    return chunks + (trips - 1) * index * statistics.mean(_shards(training))


def _whole(training: Training) -> float:
    """Return the bytes of a sample where its shards are asked for whole."""
    each = statistics.mean(work.object_bytes / work.wanted_shards for work in training.workloads)
    return each * statistics.mean(_shards(training))


def _ceiling(training: Training, profile: Profile, trips: int, nbytes: float, *, by_shard: bool = False) -> float:
    """Return the ceiling of the plans that wait `trips` times in turn for a first byte of each shard.

    Parameters
    ----------
    nbytes
        Of a sample.
    by_shard
        Whether all bytes of a shard come by one request.
    """
    shards = _shards(training)
    mean = statistics.mean(shards)
    connection = profile.connection_bytes_per_second
    epoch = shards[-training.samples_per_epoch :]
    rounds = max(1, _WAITS // len(epoch)) if profile.first_byte_p99_ms is not None else 1
    waits = first_bytes(profile, (rounds, trips, sum(epoch))).sum(axis=1)
    busy = float(waits.mean()) * mean + nbytes / connection
    of_shards = waits + nbytes / mean / connection if by_shard else waits
    of_samples = np.maximum.reduceat(of_shards, np.cumsum([0, *epoch[:-1]]), axis=1)
    in_flight = training.workloads[0].in_flight / busy if busy else math.inf
    return min(
        statistics.median(_rate(training, one) for one in of_samples), profile.link_bytes_per_second / nbytes, in_flight
    )


def _shards(training: Training) -> Sequence[int]:
    """Return the shards of each sample, of all data sets together."""
    return [
        sum(chunks_touched(read, work.array.shard_shape) for read, work in zip(reads, training.workloads, strict=True))
        for reads in zip(*(work.reads for work in training.workloads), strict=True)
    ]


def _rate(training: Training, waits: npt.NDArray[np.float64]) -> float:
    """Return the samples a second of an epoch without a step, whose samples wait so long, in seconds."""
    free = [0.0] * training.workloads[0].concurrent_reads
    taken: list[float] = []
    for batch in waits.reshape(-1, training.batch):
        end = taken[-1] if taken else 0.0
        allowed = taken[-training.ahead - 1] if len(taken) > training.ahead else 0.0
        for wait in batch:
            there = max(free[0], allowed) + float(wait)
            heapq.heapreplace(free, there)
            end = max(end, there)
        taken.append(end)
    counted = taken[lead_of(training) - 1 :]  # as the loop does: what is there with the first batch is no rate
    seconds = counted[-1] - counted[0] if counted else 0.0
    return (len(counted) - 1) * training.batch / seconds if seconds else math.inf

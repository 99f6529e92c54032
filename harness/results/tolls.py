"""What TLS costs a reader, from cells that were measured with it and without."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from harness.results.costs import Costs, MeasuredCell, Place

TICK = 1e-4
"""Seconds of the processor below which differences say nothing."""


class Toll(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS takes of one resource beyond plain HTTP: seconds of the processor."""

    byte: float = 0.0
    """For each that is fetched."""
    request: float = 0.0
    handshake: float = 0.0
    """For each new connection."""

    def of(self, costs: Costs) -> float:
        """Return what it takes of an execution."""
        return math.sumprod((self.byte, self.request, self.handshake), _causes(costs))


def _causes(costs: Costs) -> tuple[float, float, float]:
    """Return what TLS has to do: bytes, requests, handshakes."""
    return costs.fetched_bytes, costs.requests, costs.new_connections


class Encryption(msgspec.Struct, frozen=True, kw_only=True):
    """What TLS costs a reader."""

    cpu: Toll
    busiest_thread: Toll
    """Nothing where nobody told."""
    store_cpu: Toll


def encryption(cells: Iterable[MeasuredCell]) -> dict[str, Encryption]:
    """Return what TLS costs each reader, from what was measured in both ways, all else being equal."""
    every = list(cells)
    plain = {_pair(cell): cell.costs for cell in every if not cell.place.encrypted}
    pairs: dict[str, list[Pair]] = {}
    for cell in every:
        if cell.place.encrypted and _pair(cell) in plain:
            pairs.setdefault(cell.reader, []).append((cell.costs, plain[_pair(cell)]))
    told = {
        r: of for r, of in pairs.items() if all(one.busiest_thread_seconds is not None for pair in of for one in pair)
    }
    cpu = _tolls(pairs, lambda costs: costs.cpu_seconds)
    busiest = _tolls(told, lambda costs: costs.busiest_thread_seconds or 0.0)
    store = _tolls(pairs, lambda costs: costs.store_cpu_seconds)
    return {
        reader: Encryption(cpu=cpu[reader], busiest_thread=busiest.get(reader, Toll()), store_cpu=store[reader])
        for reader in pairs
    }


Pair = tuple[Costs, Costs]
"""The same reads by TLS and by plain HTTP."""


def _pair(cell: MeasuredCell) -> tuple[str, str, int, Place]:
    return cell.reader, cell.label, cell.in_flight, msgspec.structs.replace(cell.place, encrypted=False)


def _tolls(pairs: Mapping[str, Sequence[Pair]], seconds: Callable[[Costs], float]) -> dict[str, Toll]:
    """Return what bytes, requests and handshakes take of each reader: least squares, as a part of a pair's seconds.

    Nothing is cheaper by TLS: what would be takes nothing, and the others explain all. Bytes take the median of all
    readers, since a cipher's speed is the machine's: where a reader fetched few, its own cells do not tell them from
    requests.
    """
    fitted = {reader: _fit(of, seconds) for reader, of in pairs.items()}
    byte = statistics.median(costs[0] for _, _, costs in fitted.values()) if fitted else 0.0
    found = {}
    for reader, (causes, more, _) in fitted.items():
        request, handshake = _not_negative(causes[:, 1:], more - byte * causes[:, 0])
        found[reader] = Toll(byte=byte, request=request, handshake=handshake)
    return found


Floats = npt.NDArray[np.float64]


def _fit(pairs: Sequence[Pair], seconds: Callable[[Costs], float]) -> tuple[Floats, Floats, list[float]]:
    """Return what TLS had to do and what it took, both over the pair's seconds, and what explains that best."""
    weights = np.array([1 / max(seconds(by_tls), seconds(plain), TICK) for by_tls, plain in pairs])
    causes = np.array([_causes(by_tls) for by_tls, _ in pairs]) * weights[:, None]
    more = np.array([seconds(by_tls) - seconds(plain) for by_tls, plain in pairs]) * weights
    return causes, more, _not_negative(causes, more)


def _not_negative(causes: Floats, effects: Floats) -> list[float]:
    """Return the least squares of a few causes, none of which takes anything away."""
    count = causes.shape[1]
    found = []
    for used in itertools.product((False, True), repeat=count):
        one = np.zeros(count)
        one[list(used)] = np.linalg.lstsq(causes[:, used], effects, rcond=None)[0]
        found.append(one)
    allowed = (one for one in found if (one >= 0).all())
    best: list[float] = min(allowed, key=lambda one: float(((causes @ one - effects) ** 2).sum())).tolist()
    return best

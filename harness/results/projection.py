"""What a read would take on another machine: stages from measured costs, and how they overlap (docs/projection.md).

A cell is what was measured of a row, a reader on a workload, at one place and number of requests in flight. A place is
a link, a store's service time and cores.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from harness.errors import BadUseError
from harness.results.intervals import of_processes
from harness.results.sample import Sample
from harness.results.sessions import by_session
from harness.store.state import Profile, log_normal_sigma

_STEPS, _COARSE = 200, 10
"""Overlaps that are tried, from none to full; every tenth of them while something else is sought."""
_IN_A_ROW = 60
"""Numbers of requests in a row that are tried."""
_CLEARLY, _NOISE = 10.0, 0.02
"""Requests in a row are believed where they bring the squares of log ratios down to a tenth, and the model without them
is off by more than 2 %."""
_TICK = 1e-4
"""Seconds of the processor below which differences say nothing."""
_HELD_BACK, _BEYOND = 0.8, 1.2
"""A reader that had less than this part of what it may have in flight is held back by its library, one that had more
does not keep to what it is asked for."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where is read; None is no limit."""

    link_gbit_s: float | None = None
    connection_mb_s: float | None = None
    first_byte_ms: float = 0.0
    """Its median."""
    first_byte_p99_ms: float | None = None
    """None where it is constant."""
    requests_per_second: float | None = None
    """Of one prefix."""
    cores: float
    """Those that the reader may use."""
    shared_cores: float | None = None
    """Those that it shares with the embedded store; None where no store of ours takes any."""
    encrypted: bool = False
    """Whether requests go by TLS."""


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What one execution took of each resource: medians."""

    requests: float
    trips: tuple[float, ...]
    """Requests of each kind that wait for those before them, in the order in which they are sent: for sizes, indexes,
    data."""
    fetched_bytes: float
    cpu_seconds: float
    busiest_thread_seconds: float | None
    """None where nobody told."""
    store_cpu_seconds: float
    max_in_flight: float | None
    new_connections: float = 0.0
    """Those that the store accepted meanwhile; 0 where nobody told."""


class MeasuredCell(msgspec.Struct, frozen=True, kw_only=True):
    """A row's executions at one place."""

    reader: str
    label: str
    """The workload's."""
    in_flight: int
    reads: int
    concurrent_reads: int
    array_bytes: int
    place: Place
    costs: Costs
    seconds: float
    """Their median."""
    low: float
    high: float
    """Ends of its interval; of fewer samples than one takes the lowest and the highest."""

    @property
    def row(self) -> tuple[str, str]:
        """What is projected by itself."""
        return self.reader, self.label

    @property
    def turns(self) -> int:
        """How often reads that cannot be under way together follow each other."""
        return math.ceil(self.reads / self.concurrent_reads)


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


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a row's reads waits for what, as far as its cells tell."""

    in_a_row: float = 0.0
    """Requests that wait for each other however many may be in flight."""
    in_turns: bool = False
    """Whether its threads take turns, as under Python's lock: then no core but one helps its CPU time."""


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """What a row is expected to take."""

    reader: str
    label: str
    in_flight: int
    place: Place
    seconds: float
    low: float
    """The least and the most that explanations of what was measured give."""
    high: float
    array_gbit_s: float
    binds: str
    """The stage that takes longest."""
    stages: dict[str, float]
    """Seconds of each stage by itself."""
    overlap: float
    """1 where stages overlap fully, 0 where they follow each other."""
    in_a_row: float
    """As `Shape` has it."""
    in_turns: bool | None
    """As `Shape` has it; None of a Python process that was measured with one number of cores, which does not tell."""
    factor: float
    """What measured times were over those of the stages."""
    cells: int
    """Measured cells that it rests on."""


def measured_cell(
    samples: Sequence[Sample],
    *,
    place: Place,
    reader: str,
    label: str,
    in_flight: int,
    reads: int,
    concurrent_reads: int,
    array_bytes: int,
) -> MeasuredCell | None:
    """Return what samples of a row say of its costs; None where requests or bytes were not counted."""
    requests, nbytes = _median(s.requests for s in samples), _median(s.fetched_bytes for s in samples)
    found = of_processes([sample.seconds for sample in group] for group in by_session(samples))
    cpu_seconds = _median(sample.cpu_seconds for sample in samples)
    if found is None or requests is None or nbytes is None or not cpu_seconds or found.median <= 0:
        return None
    heads = _median(sample.head_requests for sample in samples) or 0.0
    indexes = _median(sample.index_requests for sample in samples) or 0.0
    seconds = [sample.seconds for sample in samples]
    return MeasuredCell(
        reader=reader,
        label=label,
        in_flight=in_flight,
        reads=reads,
        concurrent_reads=concurrent_reads,
        array_bytes=array_bytes,
        place=place,
        costs=Costs(
            requests=requests,
            trips=tuple(filter(None, (heads, indexes, max(0.0, requests - heads - indexes)))),
            fetched_bytes=nbytes,
            cpu_seconds=cpu_seconds,
            busiest_thread_seconds=_median(sample.busiest_thread_seconds for sample in samples),
            store_cpu_seconds=_median(sample.store_cpu_seconds for sample in samples) or 0.0,
            max_in_flight=_median(sample.max_in_flight for sample in samples),
            new_connections=_median(sample.new_connections for sample in samples) or 0.0,
        ),
        seconds=found.median,
        low=found.low if found.sure else min(seconds),
        high=found.high if found.sure else max(seconds),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


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
    weights = np.array([1 / max(seconds(by_tls), seconds(plain), _TICK) for by_tls, plain in pairs])
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


def _costs(cell: MeasuredCell, place: Place, tls: Encryption | None) -> Costs:
    """Return what a cell's reads cost at a place, where requests may go by TLS that did not, or the other way round.

    Raises
    ------
    BadUseError
        Nothing tells what TLS costs the reader.
    """
    costs, had = cell.costs, cell.place.encrypted
    if had == place.encrypted:
        return costs
    if tls is None:
        ways = ("plain HTTP", "TLS")
        raise BadUseError(
            f"{cell.reader} was measured by {ways[had]} alone: what {ways[not had]} costs it is told by results of "
            "the same workload, once by either, beside these"
        )
    sign = 1 if place.encrypted else -1
    busiest = costs.busiest_thread_seconds
    return msgspec.structs.replace(
        costs,
        cpu_seconds=max(0.0, costs.cpu_seconds + sign * tls.cpu.of(costs)),
        busiest_thread_seconds=None if busiest is None else max(0.0, busiest + sign * tls.busiest_thread.of(costs)),
        store_cpu_seconds=max(0.0, costs.store_cpu_seconds + sign * tls.store_cpu.of(costs)),
    )


def place_of(
    service: Profile | None, cores: float, *, shared_cores: float | None = None, encrypted: bool = False
) -> Place:
    """Return the place that the embedded store imitated.

    Parameters
    ----------
    service
        The store's; None elsewhere.
    cores
        Those that the reader might run on.
    shared_cores
        Those that it shared with the store; None where the same.
    encrypted
        Whether requests went by TLS.

    Raises
    ------
    BadUseError
        It was not the embedded store.
    """
    if service is None:
        raise BadUseError(
            "only what was read from the embedded store can be projected, whose service time is known and recorded: "
            "measure anew with `zcb read --json`"
        )
    return Place(
        link_gbit_s=service.link_gbit_s,
        connection_mb_s=service.connection_mb_s,
        first_byte_ms=service.first_byte_ms or 0.0,
        first_byte_p99_ms=service.first_byte_p99_ms,
        requests_per_second=service.requests_per_second_per_prefix,
        cores=cores,
        shared_cores=shared_cores or cores,
        encrypted=encrypted,
    )


ALL_CORES, ONE_THREAD, IN_TURNS = "CPU of all cores", "CPU of one thread", "CPU of threads in turns"
"""Stages of the same cores: the longest holds the others, whose seconds are among its own."""
_CPU = (ALL_CORES, ONE_THREAD, IN_TURNS)

_PLAIN = Shape()

WAITS = "round trips"
"""The stage that nothing overlaps: what is sent next is not known before."""


def stages(
    cell: MeasuredCell, costs: Costs, place: Place, in_flight: int, seen: float, shape: Shape = _PLAIN
) -> dict[str, float]:
    """Return the seconds of each stage by itself.

    Parameters
    ----------
    cell
        Whose reads.
    costs
        What an execution takes of each resource.
    place
        Where it would be read.
    in_flight
        Requests in flight that the reader is asked for.
    seen
        Those that it has.
    shape
        What waits for what.
    """
    kinds = cell.turns * sum(_longest(place, min(in_flight, trip / cell.turns)) for trip in costs.trips)
    lone = shape.in_a_row * _mean(place)
    one_by_one = costs.requests * _mean(place) + _took(costs.fetched_bytes / 1e6, place.connection_mb_s)
    waits = max(kinds, lone)
    found = {
        WAITS: waits,
        "requests in flight": max(0.0, (one_by_one - lone) / seen - (waits - lone)),
        "link": _took(costs.fetched_bytes * 8 / 1e9, place.link_gbit_s),
        "requests per prefix": _took(costs.requests, place.requests_per_second),
        ALL_CORES: _cpu(costs, place),
    }
    if costs.busiest_thread_seconds is not None:
        found[ONE_THREAD] = costs.busiest_thread_seconds
    if shape.in_turns:
        found[IN_TURNS] = costs.cpu_seconds
    return found


def _took(amount: float, a_second: float | None) -> float:
    return 0.0 if a_second is None else amount / a_second


def _cpu(costs: Costs, place: Place) -> float:
    own = costs.cpu_seconds / place.cores
    if place.shared_cores is None:
        return own
    return max(own, (costs.cpu_seconds + costs.store_cpu_seconds) / place.shared_cores)


def together(found: Mapping[str, float], overlap: float) -> float:
    """Return the seconds of all stages, of which all but the round trips overlap: 0 is their sum, 1 the longest."""
    cpu = max(found.get(stage, 0.0) for stage in _CPU)
    others = [cpu, *(seconds for stage, seconds in found.items() if stage not in (WAITS, *_CPU))]
    longest = max(others)
    if longest == 0 or overlap == 1:
        return found[WAITS] + longest
    power = 1 / (1 - overlap)
    shares: float = math.fsum((one / longest) ** power for one in others) ** (1 / power)
    return found[WAITS] + longest * shares


def project(cells: Sequence[MeasuredCell], place: Place, in_flight: int, tls: Encryption | None = None) -> Projection:
    """Return what a row is expected to take elsewhere.

    The overlap and the shape are those which explain the measured times best, and the factor is what is left over. The
    interval holds what every cell by itself would say, no and full overlap with the factors that suit them, and, where
    cells do not tell whether threads take turns, both; widened by the interval of the measured times, or by twice how
    far the row's own cells lie from the explanation where that is more.

    Parameters
    ----------
    cells
        Of one row, at least one.
    place
        Where it would be read.
    in_flight
        Requests in flight that the reader would be asked for.
    tls
        What TLS costs the reader, where the place differs from all cells in that.

    Raises
    ------
    BadUseError
        It differs, and nothing tells what TLS costs.
    """
    nearest = _nearest(cells, place, in_flight)
    costs = _costs(nearest, place, tls)
    shape, seen = _shape(cells), _seen(cells, in_flight)
    found = stages(nearest, costs, place, in_flight, seen, shape)
    own = _own(cells, shape)
    overlap = _fitted(own)
    factor = _factor(own, overlap)
    seconds = factor * together(found, overlap)
    others = [_said([one], found) for one in own] + [_factor(own, end) * together(found, end) for end in (0.0, 1.0)]
    is_told = not _may_take_turns(cells) or _tell_of_cores(cells)
    if not is_told:
        turns = msgspec.structs.replace(shape, in_turns=True)
        elsewhere = stages(nearest, costs, place, in_flight, seen, turns)
        others.append(_said(_own(cells, turns), elsewhere))
    scatter = 2 * statistics.pstdev(math.log(measured / together(stage, overlap)) for stage, measured in own)
    return Projection(
        reader=nearest.reader,
        label=nearest.label,
        in_flight=in_flight,
        place=place,
        seconds=seconds,
        low=min(seconds, *others) * min(math.exp(-scatter), statistics.median(one.low / one.seconds for one in cells)),
        high=max(seconds, *others) * max(math.exp(scatter), statistics.median(one.high / one.seconds for one in cells)),
        array_gbit_s=nearest.array_bytes * 8 / seconds / 1e9,
        binds=max(found, key=found.__getitem__),
        stages=found,
        overlap=overlap,
        in_a_row=shape.in_a_row,
        in_turns=shape.in_turns if is_told else None,
        factor=factor,
        cells=len(cells),
    )


Own = tuple[dict[str, float], float]
"""A cell's stages where it was measured, and its measured seconds."""


def _own(cells: Iterable[MeasuredCell], shape: Shape) -> list[Own]:
    return [
        (stages(one, one.costs, one.place, one.in_flight, _seen([one], one.in_flight), shape), one.seconds)
        for one in cells
    ]


def _said(own: Sequence[Own], found: Mapping[str, float]) -> float:
    """Return the seconds of other stages, with the overlap and factor that suit measured cells best."""
    overlap = _fitted(own)
    return _factor(own, overlap) * together(found, overlap)


def _distance(own: Sequence[Own], overlap: float) -> float:
    """Return how far the stages are from the measured times: the squares of log ratios."""
    return math.fsum(math.log(seconds / together(found, overlap)) ** 2 for found, seconds in own)


def _fitted(own: Sequence[Own], step: int = 1) -> float:
    """Return the overlap with which the stages come nearest to the measured times."""
    return min((tried / _STEPS for tried in range(0, _STEPS + 1, step)), key=lambda overlap: _distance(own, overlap))


def _factor(own: Sequence[Own], overlap: float) -> float:
    """Return the geometric mean of measured times over those of the stages."""
    return math.exp(statistics.fmean(math.log(seconds / together(found, overlap)) for found, seconds in own))


def _shape(cells: Sequence[MeasuredCell]) -> Shape:
    """Return what of a row waits for what, as far as its cells tell.

    Requests wait for each other where a lock is held while an index is fetched. Two cells, or one number in flight, fit
    anything.
    """

    def distance(shape: Shape) -> float:
        own = _own(cells, shape)
        return _distance(own, _fitted(own, _COARSE))

    plain = _PLAIN
    if _may_take_turns(cells) and _tell_of_cores(cells):
        plain = min(_PLAIN, Shape(in_turns=True), key=distance)
    if len(cells) <= 2 or len({one.in_flight for one in cells}) == 1:
        return plain
    tried = (msgspec.structs.replace(plain, in_a_row=number) for number in _tried(cells))
    waiting = min(tried, key=distance)
    is_sure = distance(plain) > max(len(cells) * _NOISE**2, _CLEARLY * distance(waiting))
    return waiting if is_sure else plain


def _may_take_turns(cells: Sequence[MeasuredCell]) -> bool:
    """Whether the row's reader is a Python process, which tells its busiest thread."""
    return all(one.costs.busiest_thread_seconds is not None for one in cells)


def _tell_of_cores(cells: Sequence[MeasuredCell]) -> bool:
    return len({one.place.cores for one in cells}) > 1


def _tried(cells: Sequence[MeasuredCell]) -> list[float]:
    """Return numbers of requests in a row: more than wait for their kinds, and no more than the measured times hold."""
    least = max(one.turns * len(one.costs.trips) for one in cells)
    most = min(min(one.costs.requests, one.seconds / (_mean(one.place) or math.inf)) for one in cells)
    if most <= least:
        return [0.0]
    return [least * (most / least) ** (number / _IN_A_ROW) for number in range(1, _IN_A_ROW + 1)]


def _nearest(cells: Sequence[MeasuredCell], place: Place, in_flight: int) -> MeasuredCell:
    """Return the cell with the most similar number of requests in flight, of those by TLS or not where there are any.

    Of several that with the most similar number of cores, since pools of threads grow with them, and then the one that
    took least CPU.
    """

    def order(one: MeasuredCell) -> tuple[bool, float, float, float]:
        other_way = one.place.encrypted != place.encrypted
        cores = _apart(one.place.cores, place.cores)
        return other_way, _apart(one.in_flight, in_flight), cores, one.costs.cpu_seconds

    return min(cells, key=order)


def _seen(cells: Sequence[MeasuredCell], in_flight: int) -> float:
    """Return how many requests a reader has in flight that is asked for so many.

    One that had fewer where it was measured is held back at what it had with the most similar number, one that had more
    has as many whatever it is asked for.
    """
    known = [(one.in_flight, one.costs.max_in_flight) for one in cells if one.costs.max_in_flight is not None]
    held_back = [(_apart(asked, in_flight), -seen) for asked, seen in known if seen < _HELD_BACK * asked]
    beyond = [seen for asked, seen in known if seen > _BEYOND * asked]
    most = -min(held_back)[1] if held_back else math.inf
    return max(1.0, *beyond, min(float(in_flight), most))


def _apart(one: float, other: float) -> float:
    """Return how many times one number is the other, as a logarithm."""
    return abs(math.log(one / other))


def _sigma(place: Place) -> float:
    return log_normal_sigma(place.first_byte_ms, place.first_byte_p99_ms)


def _longest(place: Place, draws: float) -> float:
    """Return the median of the longest of so many first bytes, in seconds."""
    normal = statistics.NormalDist().inv_cdf(0.5 ** (1 / max(1.0, draws)))
    return place.first_byte_ms / 1e3 * math.exp(_sigma(place) * normal)


def _mean(place: Place) -> float:
    """Return the mean of first bytes in seconds."""
    return place.first_byte_ms / 1e3 * math.exp(_sigma(place) ** 2 / 2)


def by_row(cells: Iterable[MeasuredCell]) -> list[list[MeasuredCell]]:
    """Return the cells of each row."""
    rows: dict[tuple[str, str], list[MeasuredCell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return list(rows.values())


def best(
    cells: Sequence[MeasuredCell], place: Place, in_flight: int | None, tls: Encryption | None = None
) -> Projection:
    """Return a row's projection for a number of requests in flight; None is the best of those that were measured."""
    asked = [in_flight] if in_flight is not None else sorted({cell.in_flight for cell in cells})
    return min((project(cells, place, one, tls) for one in asked), key=lambda found: found.seconds)

"""What a read would take on another machine: stages from measured costs, and how they overlap (docs/projection.md)."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from harness.errors import BadUseError
from harness.results.costs import Costs, MeasuredCell, Place, by_row
from harness.results.tolls import TICK, Encryption, encryption
from harness.store.state import log_normal_sigma

_STEPS, _COARSE = 200, 10
"""Overlaps that are tried, from none to full; every tenth of them while something else is sought."""
_IN_A_ROW = 60
"""Numbers of requests in a row that are tried."""
_CLEARLY, _NOISE = 10.0, 0.02
"""Requests in a row are believed where they bring the squares of log ratios down to a tenth, and the model without them
is off by more than 2 %."""
_HELD_BACK, _BEYOND = 0.8, 1.2
"""A reader that had less than this part of what it may have in flight is held back by its library, one that had more
does not keep to what it is asked for."""


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """What more cores do to a reader, from what was measured with several numbers of them."""

    least: float
    """The fewest and the most cores it was measured with: nothing is known beyond."""
    most: float
    cpu: float
    """CPU seconds grow by this power of the number of cores."""
    busiest_thread: float
    """As `cpu`; 0 where nobody told."""
    in_turns: bool | None
    """Whether its threads take turns, as under Python's lock: then no core but one helps its CPU time. None where the
    CPU never bound, which does not tell."""

    def of(self, costs: Costs, measured: float, cores: float) -> Costs:
        """Return what costs that were measured with some cores are with others."""
        known, asked = (min(max(number, self.least), self.most) for number in (measured, cores))
        busiest = costs.busiest_thread_seconds
        return msgspec.structs.replace(
            costs,
            cpu_seconds=costs.cpu_seconds * (asked / known) ** self.cpu,
            busiest_thread_seconds=None if busiest is None else busiest * (asked / known) ** self.busiest_thread,
        )


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader's cells tell of all its rows; None where nothing does."""

    tls: Encryption | None = None
    scaling: Scaling | None = None


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a row's reads waits for what."""

    in_a_row: float = 0.0
    """Requests that wait for each other however many may be in flight."""
    in_turns: bool = False
    """As `Scaling` has it."""


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
    """As `Scaling` has it; None where nothing tells, of a Python process."""
    factor: float
    """What measured times were over those of the stages."""
    cells: int
    """Measured cells that it rests on."""


def scaling(cells: Iterable[MeasuredCell]) -> dict[str, Scaling]:
    """Return what more cores do to each reader, from what was measured with several numbers of them, all else alike."""
    every = list(cells)
    found: dict[str, list[Pair]] = {}
    for encrypted in (False, True):
        for row in by_row(cell for cell in every if cell.place.encrypted == encrypted):
            if pairs := _pairs(row):
                found.setdefault(row[0].reader, []).extend(pairs)
    return {reader: _scaling(pairs) for reader, pairs in found.items()}


Pair = tuple[MeasuredCell, MeasuredCell]
"""Cells of a row, the first of which has fewer cores."""


def _pairs(row: Sequence[MeasuredCell]) -> list[Pair]:
    """Return each cell with the fewest cores beside the likest with the most, and the other way round."""
    cores = [cell.place.cores for cell in row]
    if min(cores) == max(cores):
        return []
    few, many = ([cell for cell in row if cell.place.cores == number] for number in (min(cores), max(cores)))

    def likest(cell: MeasuredCell, of: Sequence[MeasuredCell]) -> MeasuredCell:
        return max(of, key=lambda other: _likeness(other, cell.place, cell.in_flight))

    pairs = [(cell, likest(cell, many)) for cell in few] + [(likest(cell, few), cell) for cell in many]
    return list({(id(one), id(other)): (one, other) for one, other in pairs}.values())


def _scaling(pairs: Sequence[Pair]) -> Scaling:
    """Return what more cores do: the median power, and whether turns explain times better where the CPU binds."""
    every = list(itertools.chain.from_iterable(pairs))
    bound = list(itertools.chain.from_iterable(pair for pair in pairs if _is_bound_by_cpu(pair[0])))

    def power(seconds: Callable[[Costs], float | None]) -> float:
        ratios = [
            math.log(max(seconds(many.costs) or 0.0, TICK) / max(seconds(few.costs) or 0.0, TICK))
            / math.log(many.place.cores / few.place.cores)
            for few, many in pairs
        ]
        return statistics.median(ratios)

    def distance(shape: Shape) -> float:
        return math.fsum(_least_distance(row, shape) for row in by_row(bound))

    cores = [one.place.cores for one in every]
    return Scaling(
        least=min(cores),
        most=max(cores),
        cpu=power(lambda costs: costs.cpu_seconds),
        busiest_thread=power(lambda costs: costs.busiest_thread_seconds),
        in_turns=distance(Shape(in_turns=True)) < distance(_PLAIN) if bound and _may_take_turns(every) else None,
    )


def told(cells: Sequence[MeasuredCell]) -> dict[str, Told]:
    """Return what the cells of each reader tell of all its rows."""
    tls, cores = encryption(cells), scaling(cells)
    return {name: Told(tls=tls.get(name), scaling=cores.get(name)) for name in {one.reader for one in cells}}


def _costs(cell: MeasuredCell, place: Place, known: Told) -> Costs:
    """Return what a cell's reads cost at a place, which may have other cores, or TLS where there was none.

    Raises
    ------
    BadUseError
        Nothing tells what TLS costs the reader.
    """
    costs, had = cell.costs, cell.place.encrypted
    if known.scaling is not None:
        costs = known.scaling.of(costs, cell.place.cores, place.cores)
    if had == place.encrypted:
        return costs
    tls = known.tls
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


def _expected(cells: Sequence[MeasuredCell], nearest: MeasuredCell, place: Place, in_flight: int, known: Told) -> Costs:
    """Return what a row's reads cost at a place: what the nearest cell has, with the CPU seconds of the likest ones."""
    alike = [one for one in cells if one.place.encrypted == nearest.place.encrypted]
    every = [_costs(one, place, known) for one in alike]
    weights = [_likeness(one, place, in_flight) for one in alike]
    threads = [costs.busiest_thread_seconds for costs in every if costs.busiest_thread_seconds is not None]
    return msgspec.structs.replace(
        _costs(nearest, place, known),
        cpu_seconds=statistics.fmean([costs.cpu_seconds for costs in every], weights),
        busiest_thread_seconds=statistics.fmean(threads, weights) if len(threads) == len(every) else None,
        store_cpu_seconds=statistics.fmean([costs.store_cpu_seconds for costs in every], weights),
    )


ALL_CORES, ONE_THREAD, IN_TURNS = "CPU of all cores", "CPU of one thread", "CPU of threads in turns"
"""Stages of the same cores: the longest holds the others, whose seconds are among its own."""
_CPU = (ALL_CORES, ONE_THREAD, IN_TURNS)
_PLAIN = Shape()
WAITS = "round trips"
"""The stage of the network that comes before its others: what is sent next is not known before."""


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
    """Return the seconds of all stages: the network's and the CPU's overlap, from 0, their sum, to 1, the longer.

    The network takes the round trips and then the longest of what else it does.
    """
    cpu, network = _cpu_and_network(found)
    longest = max(cpu, network)
    if longest == 0 or overlap == 1:
        return longest
    power = 1 / (1 - overlap)
    shares: float = ((cpu / longest) ** power + (network / longest) ** power) ** (1 / power)
    return longest * shares


def _cpu_and_network(found: Mapping[str, float]) -> tuple[float, float]:
    """Return the seconds of either."""
    cpu = max(found.get(stage, 0.0) for stage in _CPU)
    others = (seconds for stage, seconds in found.items() if stage not in (WAITS, *_CPU))
    return cpu, found[WAITS] + max(others, default=0.0)


def _is_bound_by_cpu(cell: MeasuredCell) -> bool:
    ((found, _),) = _own([cell], _PLAIN)
    cpu, network = _cpu_and_network(found)
    return cpu > network


def project(cells: Sequence[MeasuredCell], place: Place, in_flight: int, known: Told | None = None) -> Projection:
    """Return what a row is expected to take elsewhere.

    The overlap and the shape are those which explain the measured times best, and the factor is what is left over, of
    the likest cells the most. The interval holds what every cell by itself would say, no and full overlap with the
    factors that suit them, and, where nothing tells whether threads take turns, both; widened by the interval of the
    measured times, or by twice how far the row's own cells lie from the explanation where that is more.

    Parameters
    ----------
    cells
        Of one row, at least one.
    place
        Where it would be read.
    in_flight
        Requests in flight that the reader would be asked for.
    known
        What more tells of the reader; by default these cells.

    Raises
    ------
    BadUseError
        The place differs from all cells in TLS, and nothing tells what that costs.
    """
    nearest = _nearest(cells, place, in_flight)
    known = known or told(cells)[nearest.reader]
    costs = _expected(cells, nearest, place, in_flight, known)
    in_turns = known.scaling.in_turns if known.scaling is not None else None
    if not _may_take_turns(cells):
        in_turns = False
    shape = _shape(cells, in_turns=bool(in_turns))
    seen = _seen(cells, in_flight)
    found = stages(nearest, costs, place, in_flight, seen, shape)
    own = _own(cells, shape)
    overlap = _fitted(own)
    factor = _factor(own, overlap, [_likeness(one, place, in_flight) for one in cells])
    seconds = factor * together(found, overlap)
    others = [_said([one], found) for one in own] + [_factor(own, end) * together(found, end) for end in (0.0, 1.0)]
    if in_turns is None:
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
        in_turns=in_turns,
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


def _factor(own: Sequence[Own], overlap: float, weights: Sequence[float] | None = None) -> float:
    """Return the geometric mean of measured times over those of the stages."""
    left = [math.log(seconds / together(found, overlap)) for found, seconds in own]
    return math.exp(statistics.fmean(left, weights))


def _least_distance(cells: Iterable[MeasuredCell], shape: Shape) -> float:
    """Return how far cells are from what a shape says, with the overlap that suits them."""
    own = _own(cells, shape)
    return _distance(own, _fitted(own, _COARSE))


def _shape(cells: Sequence[MeasuredCell], *, in_turns: bool) -> Shape:
    """Return what of a row waits for what, as far as its cells tell.

    Requests wait for each other where a lock is held while an index is fetched. Two cells, or one number in flight, fit
    anything.
    """
    plain = Shape(in_turns=in_turns)
    if len(cells) <= 2 or len({one.in_flight for one in cells}) == 1:
        return plain
    tried = (msgspec.structs.replace(plain, in_a_row=number) for number in _tried(cells))
    waiting = min(tried, key=lambda shape: _least_distance(cells, shape))
    least = _least_distance(cells, waiting)
    is_sure = _least_distance(cells, plain) > max(len(cells) * _NOISE**2, _CLEARLY * least)
    return waiting if is_sure else plain


def _may_take_turns(cells: Sequence[MeasuredCell]) -> bool:
    """Whether the row's reader is a Python process, which tells its busiest thread."""
    return all(one.costs.busiest_thread_seconds is not None for one in cells)


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


def _likeness(one: MeasuredCell, place: Place, in_flight: int) -> float:
    """Return how much a cell says of another: less by e for each doubling of cores, link or requests in flight."""
    apart = [_apart(one.in_flight, in_flight), _apart(one.place.cores, place.cores)]
    if one.place.link_gbit_s and place.link_gbit_s:
        apart.append(_apart(one.place.link_gbit_s, place.link_gbit_s))
    return math.exp(-math.hypot(*apart) / math.log(2))


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


def best(cells: Sequence[MeasuredCell], place: Place, in_flight: int | None, known: Told | None = None) -> Projection:
    """Return a row's projection for a number of requests in flight; None is the best of those that were measured."""
    asked = [in_flight] if in_flight is not None else sorted({cell.in_flight for cell in cells})
    return min((project(cells, place, one, known) for one in asked), key=lambda found: found.seconds)

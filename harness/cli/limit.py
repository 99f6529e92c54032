"""``zcb limit``: what the network limit fetches, and whether more connections and threads would fetch more."""

from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table

from harness.cli.output import pretty
from harness.cli.rounds import median, opened, rounds_of, rounds_options, spread
from harness.cli.values import ENV, timeout_option
from harness.errors import AnswerIsNoError, BadUseError, MeasurementError, blamed
from harness.machine.environment import admit
from harness.measure import plateau as measuring
from harness.results import plateau
from harness.results.intervals import Interval
from harness.results.plateau import BODIES, GAIN, Held, Plateau
from harness.results.sample import NETWORK_LIMIT, flags_of
from harness.results.text import cores_in_words
from harness.workload.model import MOST_IN_FLIGHT


@click.command(epilog="Example: zcb limit w.json --samples 12")
@click.argument("workload", type=click.Path(path_type=Path))
@rounds_options
@timeout_option
@ENV
@click.option("--json", "as_json", is_flag=True, help="Print all samples, figures and answers as JSON.")
def limit(
    workload: Path, samples: int, sessions: int, patience: float, timeout: float, env: tuple[str, ...], as_json: bool
) -> None:
    """Measure the network limit of a workload, and whether it stands on a plateau.

    Four shapes take turns: with the workload's requests in flight and a thread for each core, and with twice as many of
    both; with bodies kept in newly allocated memory, as a reader must, and thrown away. Exit code 1 where bodies that
    are kept come for sure faster with twice as many.
    """
    rounds = rounds_of(samples, sessions, patience)
    loaded = opened(workload, timeout)
    if 2 * loaded.in_flight > MOST_IN_FLIGHT:
        raise BadUseError(f"twice {loaded.in_flight} in flight are more than {MOST_IN_FLIGHT}, the most there may be")
    found = measuring.measure(loaded, rounds, admit(env))
    if as_json:
        click.echo(pretty(plateau.report(found)))
    else:
        _show(found)
    _demand_all(found)
    if found.holds(NETWORK_LIMIT) is False:
        raise AnswerIsNoError(f"not on a plateau: give the workload more than --in-flight {loaded.in_flight}")


def _demand_all(found: Plateau) -> None:
    """Raise what a shape has in the place of samples."""
    failed = {
        blamed(f"bodies {BODIES[shape.reader]}, {shape.in_flight} in flight", shape.error)
        for shape in found.shapes
        if shape.error is not None
    }
    if failed:
        raise MeasurementError("; ".join(sorted(failed)))
    if reasons := {shape.na for shape in found.shapes if shape.na is not None}:
        raise BadUseError("; ".join(sorted(reasons)))


def _show(found: Plateau) -> None:
    console = Console(highlight=False)
    link = f", a link of {found.link_gbit_s:g} Gbit/s" if found.link_gbit_s else ""
    console.print(f"{found.label} at {found.target}, {cores_in_words(found.cores)}{link}", markup=False)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("bodies", no_wrap=True)
    for heading in ("in\nflight", "seen", "threads", "ms", "+-", "Gbit/s", "of the\nlink", "cores", "store's\ncores"):
        table.add_column(heading, justify="right", no_wrap=True)
    for shape in found.shapes:
        table.add_row(*_cells(found, shape))
    console.print(table)
    every = [sample for shape in found.shapes for sample in shape.samples]
    for flag in flags_of(every):
        marked = sum(flag.key in sample.flags for sample in every)
        console.print(f"{flag.key} ({marked} of {len(every)} samples): {flag.meaning}", markup=False)
    for reader, bodies in BODIES.items():
        console.print(f"{bodies.capitalize()}: {_answer(found, reader)}", markup=False, soft_wrap=True)
    if (keeping := found.keeping()) is not None:
        console.print(f"Keeping bodies takes {_ratio(keeping)} of the time.", markup=False, soft_wrap=True)


def _cells(found: Plateau, shape: Held) -> list[str]:
    figures = {key: shape.figure(key) for key in plateau.FIGURES}
    rate = figures["bodies_gbit_s"]
    share = "-" if rate is None or not found.link_gbit_s else f"{rate.median / found.link_gbit_s:.0%}"
    return [
        BODIES[shape.reader],
        str(shape.in_flight),
        median(figures["connections"]),
        str(shape.threads),
        median(figures["seconds"], 1e3),
        spread(figures["seconds"]),
        median(rate),
        share,
        median(figures["cores"]),
        median(figures["store_cores"]),
    ]


def _answer(found: Plateau, reader: str) -> str:
    doubled = found.doubled(reader)
    if doubled is None:
        return "nothing measured"
    if _has_few_requests(found, reader):
        few = "unknown: the workload has too few requests for more to be in flight, which a larger one would tell"
        return f"{few} (twice the connections and threads take {_ratio(doubled)} of the time)."
    unsure = f"more --samples tell whether it is on a plateau ({1 - GAIN:g} or more)"
    said = {True: "on a plateau", False: "not on a plateau", None: unsure}[found.holds(reader)]
    return f"{said}: twice the connections and threads take {_ratio(doubled)} of the time."


def _has_few_requests(found: Plateau, reader: str) -> bool:
    """Whether no more requests were under way when twice as many were allowed, and fewer than were at first."""
    first, doubled = found.of(reader)
    seen, more = first.figure("connections"), doubled.figure("connections")
    return seen is not None and more is not None and seen.median == more.median < first.in_flight


def _ratio(ratio: Interval) -> str:
    ends = f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.sure else f" (n={ratio.count}: too few for an interval)"
    return f"{ratio.median:.3f}{ends}"

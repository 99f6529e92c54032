"""``zcb bench``: the main job, from the Rust programs to pages and an answer."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import msgspec

from harness.asv import main_job, tracked
from harness.asv.main_job import Release
from harness.cli.course import Course, duration
from harness.cli.programs import ASV_ROWS_FAILED, Programs, program, zcb
from harness.errors import MeasurementError
from harness.machine import rust
from harness.machine.environment import admit
from harness.machine.log import Step, silenced
from harness.paths import repository_file, state_dir
from harness.store import state, veth
from harness.store.lock import MeasurementLock

_INSIDE = "ZCB_BENCH_INSIDE"
"""Set where the job runs in a network namespace of its own."""

_PROGRAMS, _BUILDS, _DATA, _PUBLISH = "compiling the store and the Rust reader", "building zarr", "data", "pages"
_MEASURING = "measuring"
_SECONDS = {_PROGRAMS: 400.0, _BUILDS: 30.0, _DATA: 20.0, _PUBLISH: 20.0}
"""What each takes on two cores; builds go on while the programs are compiled."""

_HISTORY = Path(".zcb/history")
_POLL_SECONDS = 0.5


@click.command(epilog="\b\nExample:\n  zcb bench --releases 3.2.1,latest")
@click.option("--releases", default="3.2.1,3.3.0,latest", show_default=True, metavar="V,V,...", help="Of zarr.")
@click.option("--full", is_flag=True, help="Every case and reader at every release; says first how long it takes.")
@click.option("--remeasure", is_flag=True, help="Measure again what has been measured.")
@click.option(
    "--link",
    type=click.Choice(["auto", "lo", "veth"]),
    default="auto",
    show_default=True,
    help="The store's network: a virtual one, whose packets are counted, where that is allowed; else loopback.",
)
@click.option("--samples", type=click.IntRange(1), help="Rounds of each workload, instead of the profile's.")
@click.option(
    "--seconds", type=click.FloatRange(0), help="Budget of each workload instead of the profile's; 0 is none."
)
def bench(releases: str, full: bool, remeasure: bool, link: str, samples: int | None, seconds: float | None) -> None:
    """Measure releases of zarr on the embedded store, publish the pages, and answer.

    What is there is kept: programs, builds, the store, its data, and results of what was measured before.
    """
    if _INSIDE not in os.environ:
        admit()
    os.chdir(repository_file(".", instead="clone zarr-cloud-bench and run `make bench` there"))
    given = {} if samples is None else {"ZCB_SAMPLES": str(samples)}
    if seconds is not None:
        given |= {"ZCB_WORKLOAD_SECONDS": f"{seconds:g}" if seconds else "", "ZCB_READER_SECONDS": ""}
    _Job(releases=releases, full=full, remeasure=remeasure, link=link, given=given).run()


class _Job:
    """One run of the command."""

    def __init__(self, *, releases: str, full: bool, remeasure: bool, link: str, given: Mapping[str, str]) -> None:
        self._releases, self._full, self._remeasure, self._link, self._given = releases, full, remeasure, link, given
        self._programs = Programs(state_dir() / "bench.log")
        self._failed: list[str] = []
        self._course = Course()
        self._first_table_is_due = self._first_table_was_shown = False
        self._pattern = ""

    def run(self) -> None:
        """Do it all; a MeasurementError says at the end which releases have rows that failed."""
        begin = time.monotonic()
        with self._course:
            versions = self._prepare()
            config = self._start_store(versions)
            todo = [one for one in self._plan(versions) if not self._has(config, one)]
            self._course.forget(_MEASURING)
            for release in todo:
                self._course.expect({_step(release, name): took for name, took in release.steps().items()})
            if self._full and todo:
                self._course.tell(f"all of it: {duration(self._course.seconds_left)}")
            self._write_data()
            for release in todo:
                self._measure(config, release, versions)
            self._publish(config, changed=bool(todo))
        subprocess.run(zcb("answer", "--config", str(config)), check=True)
        click.echo(f"\n{_took(time.monotonic() - begin)}; what the programs printed: {self._programs.log}")
        if os.environ.get(_INSIDE):
            self._programs.call(zcb("store", "stop"))
        if self._failed:
            raise MeasurementError("; ".join(self._failed))

    def _prepare(self) -> list[str]:
        """Compile our programs and, meanwhile, build the releases; return these, oldest first."""
        self._course.expect(_SECONDS)
        if not Path("results").is_dir():  # else it is known soon enough what has to be measured
            asked = self._plan(self._releases.split(","))
            self._course.expect({_MEASURING: sum(release.seconds for release in asked)})
        if all(program.is_built() for program in rust.PROGRAMS):
            self._course.forget(_PROGRAMS)
            return self._build()
        with (
            self._course.step(_PROGRAMS),
            self._programs.started([sys.executable, "-m", "harness.machine.rust"]) as compiling,
        ):
            versions = self._build()
            self._wait(compiling, lambda share: self._course.reach(_PROGRAMS, share), _SECONDS[_PROGRAMS])
        return versions

    def _plan(self, versions: Sequence[str]) -> list[Release]:
        return main_job.plan(versions, full=self._full, given=self._given)

    def _build(self) -> list[str]:
        with self._course.step(_BUILDS):
            self._programs.call(zcb("history", "--releases", self._releases, "-o", str(_HISTORY)))
            versions = main_job.versions(_HISTORY, self._releases.split(","))
            tags = [f"v{version}" for version in versions]
            self._programs.call([sys.executable, "-m", "harness.asv.builds", str(main_job.LOOPBACK_CONFIG), *tags])
        return versions

    def _start_store(self, versions: Sequence[str]) -> Path:
        """Start the store and return asv's configuration for its network."""
        if self._link == "auto" and not os.environ.get(_INSIDE) and state.running() is None and veth.obstacle():
            self._enter_own_network(versions)
        self._programs.call(zcb("store", "start", "--profile", "s3", "--link", self._link))
        if state.require_running().link.name == "veth":
            return main_job.VETH_CONFIG
        self._course.tell("The store is on loopback: bytes on the wire are not counted (docs/network.md).")
        return main_job.LOOPBACK_CONFIG

    def _enter_own_network(self, versions: Sequence[str]) -> None:
        """Go on in a network namespace of our own, where that is allowed; the package index is out of reach there."""
        own = [sys.executable, "-m", "harness.machine.own_network"]
        if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
            return
        self._course.tell("Measuring in a network namespace of its own: the store ends with it.")
        self._course.stop()
        arguments = [*sys.argv[1:], "--releases", ",".join(versions)]
        os.execve(own[0], [*own, *zcb(*arguments)], os.environ | {_INSIDE: "1"})  # noqa: S606 - no shell

    def _has(self, config: Path, release: Release) -> bool:
        """Whether a release needs no measuring."""
        names = main_job.environments(config)
        return not self._remeasure and main_job.is_measured(release, main_job.recorded(config), names)

    def _write_data(self) -> None:
        with self._course.step(_DATA):
            besides = ("--as", "icechunk") if self._full else ()  # what a quick job's readers do not read
            self._programs.write_data("demo", *besides)

    def _measure(self, config: Path, release: Release, versions: Sequence[str]) -> None:
        """Measure a release; rows that fail are told at the end, since the others are right."""
        steps = self._programs.log.with_suffix(".steps")
        steps.write_bytes(b"")
        asked = main_job.variables(release, steps)
        command = [program("asv"), "run", "--config", str(config), "--record-samples", "--bench", release.selection]
        self._programs.call([program("asv"), "machine", "--yes", "--config", str(config)])
        with self._programs.started([*command, f"{release.tag}^!"], asked) as running:
            shown = 0
            while running.poll() is None:
                time.sleep(_POLL_SECONDS)
                shown = self._show(release, steps, shown)
                if self._first_table_is_due:
                    self._show_first_table(config, versions)
        if running.returncode == ASV_ROWS_FAILED:
            self._failed.append(f"rows of zarr {release.version} failed: `zcb table --commit {release.tag}` says why")
        elif running.returncode:
            raise MeasurementError(f"asv could not measure zarr {release.version}: {self._programs.last_line()}")
        self._course.finish(_step(release, name) for name in release.steps())

    def _show(self, release: Release, steps: Path, shown: int) -> int:
        """Show the steps that were reported after the first `shown`; return how many there are."""
        reported = steps.read_bytes().splitlines()
        for line in reported[shown:]:
            step = msgspec.json.decode(line, type=Step)
            if step.warning:
                self._course.tell(f"zarr {release.version}: {step.warning}")
                continue
            before, self._pattern = self._pattern, step.name.partition(" ")[0]
            self._first_table_is_due |= before == main_job.FIRST_PATTERN != self._pattern
            self._course.reach(_step(release, step.name), step.share, doing=f"zarr {release.version}: {step.name}")
        return len(reported)

    def _show_first_table(self, config: Path, versions: Sequence[str]) -> None:
        """Print what readers care for most as soon as two releases have it; the rest takes minutes more.

        A pass writes its record when it ends, so records are looked for when the next one has begun.
        """
        self._first_table_is_due = False
        two = {f"v{version}" for version in (versions[0], versions[-1])}
        there = {one.commit_name for one in main_job.recorded(config) if one.pattern == main_job.FIRST_CLASS}
        if self._first_table_was_shown or len(two) < 2 or not two <= there:
            return
        self._first_table_was_shown = True
        chosen = ["--pattern", main_job.FIRST_PATTERN, "--readers", ",".join(tracked.PLAIN_READERS)]
        table = zcb("table", "--by", "commit", "--config", str(config), *chosen)
        with silenced(MeasurementLock.__module__), MeasurementLock():  # between two workloads, which it would disturb
            shown = subprocess.run(table, stdout=subprocess.PIPE, check=True, text=True)
        self._course.tell(f"The first table; the rest follows.\n\n{shown.stdout}")

    def _publish(self, config: Path, *, changed: bool) -> None:
        with self._course.step(_PUBLISH):
            if changed or not Path("html/index.html").is_file():
                self._programs.call([program("asv"), "publish", "--config", str(config)])

    def _wait(self, running: subprocess.Popen[bytes], reach: Callable[[float], None], expected: float) -> None:
        """Wait for a program that does not tell how far it is; a MeasurementError says why it failed."""
        while running.poll() is None:
            reach(min(0.98, self._course.elapsed / expected))
            time.sleep(_POLL_SECONDS)
        self._programs.demand(running.returncode)


def _step(release: Release, name: str) -> str:
    return f"{release.version} {name}"


def _took(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"

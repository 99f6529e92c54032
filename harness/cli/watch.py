"""``zcb watch``: new commits of zarr-python measured, and what got faster or slower since the last time."""

import logging
import shlex
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from harness.asv import main_job
from harness.asv import watch as watching
from harness.asv.watch import Commit, Results
from harness.cli.output import pretty
from harness.cli.programs import ASV_ROWS_FAILED, Programs, program, zcb
from harness.cli.values import OutputFile, write_output
from harness.cli.watch_report import Check, Report, checks, headline, markdown, unchecked
from harness.errors import AnswerIsNoError, MeasurementError, ZcbError
from harness.machine.environment import admit
from harness.paths import ZARR_REPOSITORY_VARIABLE, repository_file, state_dir
from harness.readers import under_test
from harness.results import answer as answers
from harness.results.answer import Step
from harness.store import state
from harness.targets.resolve import resolve, store_flags
from harness.targets.target import EMBEDDED
from harness.verdict import builds
from harness.verdict.model import Verdict

_log = logging.getLogger(__name__)

_EXAMPLES = """\b
Examples:
  zcb watch --markdown watch.md
  zcb watch --repo CLONE --since 3.4.2 --max 5 --json"""


@click.command(epilog=_EXAMPLES)
@click.option("--repo", metavar="URL|PATH", help="zarr-python (default: ZCB_ZARR_REPO, else asv.conf.json's).")
@click.option("--branch", default="main", show_default=True, help="Whose commits are measured.")
@click.option(
    "--since", metavar="COMMIT", help="Tell what changed from there on (default: where the last watch ended)."
)
@click.option(
    "--max",
    "most",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="New commits to measure: of more, so many evenly spread, the newest among them.",
)
@click.option("--quick", is_flag=True, help="One process of each reader instead of seven: quicker, and less sure.")
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Let both versions of a step that was found take turns before it is told.",
)
@click.option("--machine", metavar="NAME", help="Whose results asv takes this machine's for (default: its host name).")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="asv configuration that measures, and keeps results (default: asv.conf.json).",
)
@click.option("--markdown", "markdown_file", type=OutputFile(), help="Write the report for people.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def watch(
    repo: str | None,
    branch: str,
    since: str | None,
    most: int,
    quick: bool,
    check: bool,
    machine: str | None,
    config: Path | None,
    markdown_file: Path | None,
    as_json: bool,
) -> None:
    """Measure new commits of zarr-python, and say what got faster or slower since the last time.

    Commits that change nothing of the package are passed over. What is measured is kept in asv's results: a watch that
    was ended goes on where it was. The first one measures the newest commit alone, unless --since names an older one.
    Exit code 1 means slower, 4 that something could not be measured.
    """
    admit()
    chosen = config or repository_file("asv.conf.json", instead="name an asv configuration by --config")
    results = Results(chosen.absolute(), quick=quick, machine=machine)
    clone = builds.local_clone(repo).absolute()
    tip = builds.commit_of(clone, branch)
    start = builds.commit_of(clone, since) if since else results.start(clone, branch, tip)
    new = watching.changing(clone, start, tip)
    wanted = watching.chosen(new, most)
    watched = _Watched(config=chosen.absolute(), results=results, clone=clone)
    failed = watched.measure(results.missing(wanted))
    steps, notices = watched.steps(wanted)
    report = Report(
        branch=branch,
        place=watched.place,
        commits=wanted,
        left_out=len(new) - len(wanted),
        steps=steps,
        checks=watched.checks(steps) if check else [],
        failed=failed,
        notices=notices,
    )
    if markdown_file is not None:
        write_output(markdown_file, markdown(report).encode() + b"\n")
    if as_json:
        click.echo(pretty(report))
    else:
        click.echo(markdown(report))
    measured = results.measured(wanted)
    if measured:
        results.tell(branch, measured[-1].commit)
    _judge(report)


def _judge(report: Report) -> None:
    """Raise what the exit code has to say: slower before what failed."""
    if report.found("slower"):
        raise AnswerIsNoError(f"slower: {headline(report)}")
    if report.failures:
        raise MeasurementError("; ".join(report.failures))


class _Watched:
    """What is done with commits: measured, compared, and held against each other in turns."""

    def __init__(self, *, config: Path, results: Results, clone: Path) -> None:
        self._config, self._results, self._clone = config, results, clone
        self._target, self._preset = (results.settings.get(name, "") for name in ("ZCB_TARGET", "ZCB_PRESET"))
        self._programs = Programs(state_dir() / "watch.log")

    @property
    def place(self) -> str:
        """Where is measured."""
        return f"{self._target} {self._preset} on {self._results.machine}"

    def measure(self, todo: Sequence[Commit]) -> list[str]:
        """Measure commits, oldest first, and return which of them failed, and why: the others are right."""
        if todo:
            self._make_ready()
        failed = []
        for number, commit in enumerate(todo, 1):
            _log.info(f"{commit.commit[:9]} ({number} of {len(todo)}): {commit.subject}")
            try:
                self._run_asv(commit)
            except MeasurementError as error:
                _log.info(f"{commit.commit[:9]} failed: {error}")
                failed.append(f"{commit.commit[:9]}: {error}")
        return failed

    def _make_ready(self) -> None:
        """Start the embedded store and write the data that are read; demand any other target."""
        name, _, asked = self._target.partition(":")
        if name == EMBEDDED and state.running() is None:
            self._programs.call(zcb("store", "start", *store_flags(asked)))
        resolve(self._target)
        if name == EMBEDDED:
            self._programs.write_data(self._preset)
        named = ["--machine", self._results.machine, "--config", str(self._config)]
        self._programs.call([program("asv"), "machine", "--yes", *named])

    def _run_asv(self, commit: Commit) -> None:
        asked = self._results.asked
        variables = main_job.variables(asked, self._programs.log.with_suffix(".steps"))
        command = [program("asv"), "run", "--config", str(self._config), "--machine", self._results.machine]
        selected = ["--record-samples", "--bench", asked.selection, f"{commit.commit}^!"]
        named = {ZARR_REPOSITORY_VARIABLE: str(self._clone)}
        with self._programs.started([*command, *selected], variables | named) as running:
            running.wait()
        if running.returncode != ASV_ROWS_FAILED:
            self._programs.demand(running.returncode)
        if not self._results.measured([commit]):
            reason = self._results.failure(commit) or self._programs.last_line()
            raise MeasurementError(f"{reason} (all of it: {self._programs.log})")

    def steps(self, commits: Sequence[Commit]) -> tuple[list[Step], list[str]]:
        """Return what changed from each measured commit to the next, and where the machine drifted between them."""
        passes = self._results.of(self._results.measured(commits))
        if not passes:
            return [], []
        said = answers.answer(passes, under_test())
        return [self._with_repository(step) for step in said.steps], said.notices

    def _with_repository(self, step: Step) -> Step:
        """Return a step whose command says in which clone the commits are: a report is read elsewhere too."""
        where = shlex.join(["--repo", self._clone.name])
        return msgspec.structs.replace(step, command=step.command and f"{step.command} {where}")

    def checks(self, steps: Sequence[Step]) -> list[Check]:
        """Let both versions of each step with findings take turns; what was found once may be the machine's."""
        return [one for step in steps if step.differences for one in self._checked(step)]

    def _checked(self, step: Step) -> list[Check]:
        found = step.differences
        names = [",".join(dict.fromkeys(of)) for of in ([f.reader for f in found], [f.pattern for f in found])]
        _log.info(f"{step.before} and {step.after} take turns: {', '.join(names)}")
        words = ["compare", step.before, step.after, "--repo", str(self._clone), "--target", self._target]
        command = zcb(*words, "--readers", names[0], "--patterns", names[1], "--json")
        try:
            said = self._programs.answer(command, self._results.settings)
        except ZcbError as error:
            return unchecked(step, str(error))
        return checks(step, msgspec.json.decode(said, type=Verdict))

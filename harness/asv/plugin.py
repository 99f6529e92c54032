"""Everything of ours that asv loads: the ``plugins`` key of every asv configuration names this module.

asv imports it in each of its commands, so what is slow to import is imported where it is used.
"""

import functools
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from asv.commands import compare, run
from asv.commands.setup import Setup
from asv.console import log
from asv.environment import Environment
from asv.machine import Machine
from asv.plugins.git import Git
from asv.plugins.regressions import Regressions
from asv.publishing import OutputPublisher
from asv.repo import NoSuchNameError
from asv.results import Results
from asv.runner import Spawner
from asv.util import UserError
from asv_runner import console

from harness.asv import installed
from harness.asv.builds import install_at_once
from harness.errors import ZcbError
from harness.machine import environment
from harness.machine.log import reason_in
from harness.paths import ZARR_REPOSITORY, ZARR_REPOSITORY_VARIABLE
from harness.results import records
from harness.results.records import APPEND_VARIABLE, FOLDER_VARIABLE, VERSIONS_VARIABLE


def setup() -> None:
    """Change what asv does for our benchmarks; asv calls this once, after importing the module."""
    _leave_out_settings()
    _tell_where_records_go()
    _take_the_repository_that_is_named()
    _do_without_branches_that_are_not_there()
    _compare_readers_of_zarr_python_only()
    _look_for_regressions_of_zarr_python_only()
    _measure_what_is_installed()
    _say_why_a_pass_failed()
    _one_at_a_time()
    _print_short_names()
    _tell_whether_samples_are_appended()
    _remove_records_with_results()
    install_at_once()


def _leave_out_settings() -> None:
    """Let this asv, its builds and its benchmarks see nothing of what libraries would heed.

    asv's processes inherit its environment; `benchmarks/` seals those that measure.
    """
    names = environment.left_out()
    environment.strip()
    if names:
        sys.stderr.write(f"zcb: left out of what asv measures: {', '.join(names)} (docs/reliability.md)\n")


def _tell_where_records_go() -> None:
    """Tell the benchmarks of this asv where pass records go.

    A benchmark process learns neither the machine's name nor the results directory. asv names both when it saves the
    machine's facts, which is the first thing that every run does.
    """
    saved = Machine.save

    @functools.wraps(saved)
    def save(machine: Any, results_dir: str) -> None:
        os.environ[FOLDER_VARIABLE] = str(Path(results_dir).absolute() / machine.machine / "passes")
        saved(machine, results_dir)

    Machine.save = save


def _tell_whether_samples_are_appended() -> None:
    """Tell passes whether asv keeps the samples that it has (``--append-samples``, rounds that are interleaved)."""
    measured = run.run_benchmarks

    @functools.wraps(measured)
    def run_benchmarks(*arguments: Any, append_samples: bool = False, **options: Any) -> Any:
        os.environ[APPEND_VARIABLE] = "1" if append_samples else "0"
        return measured(*arguments, append_samples=append_samples, **options)

    run.run_benchmarks = run_benchmarks


def _remove_records_with_results() -> None:
    """Let ``asv rm`` of a commit remove what lies beside its result too, which tables and pages show."""
    removed = Results.rm

    @functools.wraps(removed)
    def rm(result: Any, results_dir: str) -> None:
        removed(result, results_dir)
        for path in records.of_build(Path(results_dir) / result.params["machine"], result.commit_hash, result.env_name):
            path.unlink()

    Results.rm = rm


_LONG_NAME = re.compile(r"\b\w+-(py\d[\w.]*)-[\w.+-]{100,}")
"""asv's name of an environment with all pins in it, which is its identity in results."""


def _print_short_names() -> None:
    """Print an environment's name as its result files carry it, with fewer digits: by itself it takes 600 letters."""
    written = console._write_with_fallback

    @functools.wraps(written)
    def write(text: str, file: Any) -> None:
        written(_LONG_NAME.sub(short_name, text), file)

    console._write_with_fallback = write


def short_name(name: re.Match[str]) -> str:
    """Return ``py3.13 env-c5f1a2b3``, where asv's results are in files called ``<commit>-env-c5f1a2b3...json``."""
    return f"{name[1]} env-{records.env_digest(name[0])[:8]}"


def _one_at_a_time() -> None:
    """Refuse to use environments that another asv uses, before anything is changed in them.

    The first asks for all, since asv may make them in processes that it forks.
    """
    performed, created, installed_project = Setup.perform_setup, Environment.create, Environment.install_project

    @functools.wraps(performed)
    def perform_setup(environments: Sequence[Any], *arguments: Any, **options: Any) -> Any:
        for one in environments:
            _hold(one)
        return performed(environments, *arguments, **options)

    @functools.wraps(created)
    def create(environment: Any) -> None:
        _hold(environment)
        created(environment)

    @functools.wraps(installed_project)
    def install_project(environment: Any, *arguments: Any) -> None:
        _hold(environment)
        installed_project(environment, *arguments)

    Setup.perform_setup = staticmethod(perform_setup)
    Environment.create, Environment.install_project = create, install_project


def _hold(environment: Any) -> None:
    if not installed.is_existing(environment):
        installed.hold(environment._env_dir)


def _measure_what_is_installed() -> None:
    """Let no pass begin in an environment that is not the commit's, and tell each pass what its environment holds."""
    created = Spawner.create_setup_cache

    @functools.wraps(created)
    def create(spawner: Any, *arguments: Any) -> tuple[str | None, str]:
        trouble = installed.trouble(spawner.env)
        if trouble is not None:
            return None, f"zcb: {trouble}"
        os.environ[VERSIONS_VARIABLE] = json.dumps(installed.versions(spawner.env))
        found: tuple[str | None, str] = created(spawner, *arguments)
        return found

    Spawner.create_setup_cache = create


def _say_why_a_pass_failed() -> None:
    """Print why a `setup_cache` failed; asv prints what it wrote only where ``--show-stderr`` asks for all."""
    created = Spawner.create_setup_cache

    @functools.wraps(created)
    def create(spawner: Any, benchmark: str, timeout: float, params: str) -> tuple[str | None, str]:
        folder, output = created(spawner, benchmark, timeout, params)
        if folder is None:
            log.error(reason_in(output))
        return folder, output

    Spawner.create_setup_cache = create


def _take_the_repository_that_is_named() -> None:
    """Let an environment variable stand for the URL of zarr-python, as it does for comparisons."""
    named = os.environ.get(ZARR_REPOSITORY_VARIABLE)
    if not named:
        return
    opened = Git.__init__

    @functools.wraps(opened)
    def init(repo: Any, url: str, mirror_path: str) -> None:
        opened(repo, named if url == ZARR_REPOSITORY else url, mirror_path)

    Git.__init__ = init


def _do_without_branches_that_are_not_there() -> None:
    """Let a configured branch that the repository lacks have no commits: a plain clone has no pull requests."""
    found = Git.get_branch_commits

    @functools.wraps(found)
    def get_branch_commits(repo: Any, branch: str) -> list[str]:
        try:
            repo.get_hash_from_name(repo.get_branch_name(branch))
        except NoSuchNameError:
            log.warning(f"the repository has no branch {branch}: nothing of it is shown (a mirror has pull requests)")
            return []
        commits: list[str] = found(repo, branch)
        return commits

    Git.get_branch_commits = get_branch_commits


def _other_readers() -> dict[str, str]:
    """Return the readers that no commit of zarr-python changes, by asv's text of the parameter."""
    from harness.readers import all_readers, derived, reader_class

    names = [*all_readers(), *derived()]
    return {repr(name): name for name in names if not reader_class(name).uses_zarr_python()}


def _compare_readers_of_zarr_python_only() -> None:
    """Leave readers that do not use zarr-python out of ``asv compare`` and ``asv continuous``, and say so below.

    asv would call it a change of the commit when such a reader differs between two passes: it was the machine, and
    `harness.results.drift` tells of that.
    """
    unrolled, printed = compare.unroll_result, compare.Compare.print_table
    left_out: dict[str, str] = {}

    @functools.wraps(unrolled)
    def unroll_result(benchmark: str, params: Sequence[Sequence[str]], *values: Any) -> Iterator[tuple[Any, ...]]:
        others = _other_readers()
        rows = unrolled(benchmark, params, *values)
        for combination, row in zip(itertools.product(*params), rows, strict=False):
            reader = next((others[value] for value in combination if value in others), None)
            if reader is None:
                yield row
            else:
                left_out[row[0]] = reader

    @functools.wraps(printed)
    def print_table(*arguments: Any, **options: Any) -> Any:
        left_out.clear()
        try:
            return printed(*arguments, **options)
        finally:
            if left_out:
                names = ", ".join(dict.fromkeys(left_out.values()))
                print(  # noqa: T201 - below asv's table, which is printed
                    f"\nLeft out: {len(left_out)} rows of {names}, which do not use zarr-python: "
                    "no commit of it changes them. `zcb table --by commit` shows them."
                )

    compare.unroll_result, compare.Compare.print_table = unroll_result, print_table


def _look_for_regressions_of_zarr_python_only() -> None:
    """Leave readers that do not use zarr-python out of asv's page of regressions, as a configuration can ask for."""
    published = Regressions.publish

    @functools.wraps(published)
    def publish(conf: Any, *arguments: Any) -> None:
        names = "|".join(map(re.escape, _other_readers()))
        conf.regressions_first_commits = {**conf.regressions_first_commits, rf".*\((?:.*, )?(?:{names})[,)]": None}
        published(conf, *arguments)

    Regressions.publish = publish


class Site(OutputPublisher):  # type: ignore[misc]  # asv has no types
    """Completes the site that ``asv publish`` wrote: works offline, and has our own pages."""

    name: ClassVar[str] = "site"
    button_label: ClassVar[str] = "Readers"
    description: ClassVar[str] = "Readers side by side"
    order: ClassVar[float] = math.inf
    """After asv's own pages, which this one changes."""

    @classmethod
    def publish(cls, conf: Any, _repo: Any, _benchmarks: Any, _graphs: Any, _revisions: Any) -> None:
        """Change the site in ``conf.html_dir``; what stands against it is one line of asv's."""
        from harness import site

        try:
            site.complete(conf)
        except ZcbError as error:
            raise UserError(f"zcb: {error}") from error

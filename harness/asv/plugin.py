"""Everything of ours that asv loads: the ``plugins`` key of every asv configuration names this module.

asv imports it in each of its commands, so what is slow to import is imported where it is used.
"""

import functools
import math
import os
from pathlib import Path
from typing import Any, ClassVar

from asv.console import log
from asv.machine import Machine
from asv.plugins.git import Git
from asv.publishing import OutputPublisher
from asv.runner import Spawner

from harness.asv.builds import install_at_once
from harness.machine.log import reason_in
from harness.paths import ZARR_REPOSITORY, ZARR_REPOSITORY_VARIABLE
from harness.results.records import FOLDER_VARIABLE


def setup() -> None:
    """Change what asv does for our benchmarks; asv calls this once, after importing the module."""
    _tell_where_records_go()
    _take_the_repository_that_is_named()
    _say_why_a_pass_failed()
    install_at_once()


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


class Site(OutputPublisher):  # type: ignore[misc]  # asv has no types
    """Completes the site that ``asv publish`` wrote: works offline, and has our own pages."""

    name: ClassVar[str] = "site"
    button_label: ClassVar[str] = "Readers"
    description: ClassVar[str] = "Readers side by side"
    order: ClassVar[float] = math.inf
    """After asv's own pages, which this one changes."""

    @classmethod
    def publish(cls, conf: Any, _repo: Any, _benchmarks: Any, _graphs: Any, _revisions: Any) -> None:
        """Change the site in ``conf.html_dir``."""
        from harness import site

        site.complete(conf)

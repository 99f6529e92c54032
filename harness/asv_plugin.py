"""Everything of ours that asv loads: the ``plugins`` key of every asv configuration names this module.

asv imports it in each of its commands, so what is slow to import is imported where it is used.
"""

import functools
import math
import os
from pathlib import Path
from typing import Any, ClassVar

from asv.machine import Machine
from asv.publishing import OutputPublisher

from harness.records import FOLDER_VARIABLE


def setup() -> None:
    """Tell the benchmarks of this asv where pass records go; asv calls this once, after importing the module.

    A benchmark process learns neither the machine's name nor the results directory. asv names both when it saves the
    machine's facts, which is the first thing that every run does.
    """
    saved = Machine.save

    @functools.wraps(saved)
    def save(machine: Any, results_dir: str) -> None:
        os.environ[FOLDER_VARIABLE] = str(Path(results_dir).absolute() / machine.machine / "passes")
        saved(machine, results_dir)

    Machine.save = save


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

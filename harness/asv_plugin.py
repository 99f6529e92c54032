"""Everything of ours that asv loads: the ``plugins`` key of every asv configuration names this module.

asv imports it in each of its commands, so what is slow to import is imported where it is used.
"""

import math
from typing import Any, ClassVar

from asv.publishing import OutputPublisher


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

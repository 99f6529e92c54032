"""What is added to the site that asv publishes: it works without a network, and has pages of our own."""

from pathlib import Path
from typing import Any


def complete(conf: Any) -> None:
    """Change the site that asv just wrote.

    Parameters
    ----------
    conf
        asv's configuration, whose ``html_dir`` holds the site.
    """
    Path(conf.html_dir).resolve(strict=True)

"""What new memory costs where a virtual machine gives free pages back to its host (docs/results.md).

``python -m studies.pages`` takes 256 MiB, clears them, gives them back, and takes them again: at once, and after a
pause in which the kernel reports free pages to the host (Linux does so two seconds after some became free). A balloon
without free page reporting makes no difference between the two.
"""

import math
import statistics
import time
from pathlib import Path

import click
import numpy as np

from harness.machine.memory import is_given_to_host

_NBYTES = 256 << 20
_PAGE = 4096
_REPORTED = Path("/sys/module/page_reporting/parameters/reported_kib")
"""Only some kernels count that."""


@click.command()
@click.option("--turns", type=click.IntRange(1), default=9, show_default=True)
@click.option("--pause", type=click.FloatRange(0), default=5.0, show_default=True, help="Seconds.")
def main(turns: int, pause: float) -> None:
    """Print the milliseconds that 256 MiB of new memory take, at once and after a pause."""
    click.echo(f"free pages are reported to a host: {'yes' if is_given_to_host() else 'no'}")
    found: dict[float, list[float]] = {0.0: [], pause: []}
    for _ in range(turns):
        for seconds, took in found.items():
            _new_memory()
            before = _reported_mib()
            time.sleep(seconds)
            reported = _reported_mib() - before
            took.append(_new_memory())
            click.echo(f"after {seconds:g} s: {1e3 * took[-1]:.0f} ms, {reported:.0f} MiB reported meanwhile")
    for seconds, took in found.items():
        low, high = 1e3 * min(took), 1e3 * max(took)
        click.echo(f"after {seconds:g} s: median {1e3 * statistics.median(took):.0f} ms, {low:.0f} to {high:.0f}")


def _new_memory() -> float:
    """Return the seconds that it takes to have all pages of a new array."""
    began = time.perf_counter()
    np.empty(_NBYTES, np.uint8)[::_PAGE] = 1
    return time.perf_counter() - began


def _reported_mib() -> float:
    """Return what has been reported since the start; not a number where the kernel does not count it."""
    return int(_REPORTED.read_text()) / 1024 if _REPORTED.exists() else math.nan


if __name__ == "__main__":
    main()

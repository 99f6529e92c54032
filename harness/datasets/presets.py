"""What is known of the data sets that are written by name, from the package that writes them."""

from collections.abc import Callable
from importlib.metadata import entry_points

from harness.datasets.manifest import DatasetSpec
from harness.errors import BadUseError


def specs(preset: str) -> list[DatasetSpec]:
    """Return the specs of a preset's datasets; through an entry point, since harness imports nothing above it.

    Raises
    ------
    BadUseError
        Unknown preset, or a package that was not installed as a whole.
    """
    for point in entry_points(group="zcb.presets"):
        known: Callable[[str], list[DatasetSpec]] = point.load()
        return known(preset)
    raise BadUseError("the presets are not installed: run `make`")

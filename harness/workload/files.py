"""Workload files, as commands take them. Workers never read one: they are handed the workload."""

from pathlib import Path

import msgspec

from harness.errors import BadUseError
from harness.paths import contents
from harness.targets.resolve import found_again
from harness.workload.model import Workload, decode


def load(path: Path) -> Workload:
    """Read a workload file; one made on the embedded store is of the store as it runs now, on whatever port.

    Raises
    ------
    BadUseError
        What is wrong with the file.
    StoreError
        It is of the embedded store, which is not running.
    """
    try:
        workload = decode(contents(path), origin=str(path))
    except OSError as error:
        raise BadUseError(f"cannot read {path}: {error.strerror}") from error
    return msgspec.structs.replace(workload, target=found_again(workload.target))

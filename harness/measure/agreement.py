"""The truth of an array without a manifest: what two readers that share no decoding code agree on."""

import logging

import msgspec

from harness.errors import MeasurementError, UnsupportedError
from harness.measure.conductor import OPEN_SECONDS, turn_deadline
from harness.measure.process import WorkerProcess
from harness.readers import reader_class, representatives
from harness.workload.model import Workload
from harness.workload.truth import Truth, first_difference

_log = logging.getLogger(__name__)

_NEEDED = 2


def agreed_truth(workload: Workload) -> Truth:
    """Return the checksums of the arrays that two independent readers both return for `workload`.

    Of the readers that stand for a decoder the first that can do the work counts.

    Parameters
    ----------
    workload
        One whose own truth is not known: it is not looked at.

    Raises
    ------
    MeasurementError
        The two disagree, or fewer than two can read the array.
    """
    found: dict[str, str] = {}
    reasons: list[str] = []
    for stack in representatives().values():
        for name in stack:
            try:
                found[name] = _checksums(name, workload)
                _log.info(f"{workload.label}: read by {name}")
                break
            except (UnsupportedError, MeasurementError) as reason:
                reasons.append(f"{name}: {reason}")
        if len(found) == _NEEDED:
            break
    else:
        raise MeasurementError(
            f"{workload.array.key!r} has no manifest, and no two independent readers can read it: {'; '.join(reasons)}"
        )
    (one, other), (left, right) = found, found.values()
    different = first_difference(left, right)
    if different is not None:
        raise MeasurementError(
            f"{workload.array.key!r} has no manifest, and {one} and {other} disagree on read {different}: "
            "nobody can tell who is right"
        )
    return Truth(reads_crc32c=left, agreed_by=(one, other))


def _checksums(reader: str, workload: Workload) -> str:
    """Return the checksums of what one reader returns, read in a process of its own."""
    worker = WorkerProcess(reader_class(reader))
    try:
        worker.require({"op": "open", "workload": msgspec.to_builtins(workload)}, timeout=OPEN_SECONDS)
        answer = worker.require({"op": "checksums"}, timeout=turn_deadline(workload))
    finally:
        worker.stop()
    return str(answer["reads_crc32c"])

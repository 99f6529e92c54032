"""The truth of an array without a manifest: what two readers that share no decoding code agree on."""

import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from harness.datasets.metadata import decoded
from harness.errors import MeasurementError, UnsupportedError
from harness.measure.execution import OPEN_SECONDS, turn_deadline
from harness.measure.process import WorkerProcess, told
from harness.readers import reader_class, representatives
from harness.targets.client import fetched, open_store, reaching
from harness.targets.target import joined
from harness.workload.model import Workload
from harness.workload.truth import Truth, first_difference

_log = logging.getLogger(__name__)

_PLAIN = re.compile(r"[\w./~-]*", re.ASCII)
"""Keys that nothing has to encode: no client can take such a one for another."""


def agreed_truth(workload: Workload) -> Truth:
    """Return the checksums of the arrays that two independent readers both return for `workload`.

    The first pair counts that can do the work: its readers share no decoding code and, so that a mistake in where they
    read does not pass for the truth either, no client.

    Parameters
    ----------
    workload
        One whose own truth is not known: it is not looked at.

    Raises
    ------
    MeasurementError
        The two disagree, or no such two can read the array.
    """
    asked = _Asked(workload)
    for pair in _pairs(workload):
        if all(map(asked.can_read, pair)):
            break
    else:
        raise MeasurementError(
            f"{workload.array.key!r} has no manifest, and no two independent readers can read it: "
            f"{'; '.join(f'{name}: {reason}' for name, reason in asked.reasons.items())}"
        )
    one, other = pair
    left, right = asked.found[one], asked.found[other]
    different = first_difference(left, right)
    if different is not None:
        raise MeasurementError(
            f"{workload.array.key!r} has no manifest, and {one} and {other} disagree on read {different}: "
            "nobody can tell who is right"
        )
    return Truth(reads_crc32c=left, agreed_by=(one, other))


class _Asked:
    """What readers returned, each asked once."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.found: dict[str, str] = {}
        self.reasons: dict[str, str] = {}
        """Why the others could not."""

    def can_read(self, name: str) -> bool:
        """Whether a reader returned arrays."""
        if name not in self.found and name not in self.reasons:
            try:
                self.found[name] = self._asked(name)
                _log.info(f"{self._workload.label}: read by {name}")
            except (UnsupportedError, MeasurementError) as reason:
                self.reasons[name] = str(reason)
        return name in self.found

    def _asked(self, name: str) -> str:
        """Return what a reader returns; one that cannot parse the stored metadata may be given them."""
        try:
            return _checksums(name, self._workload)
        except UnsupportedError:
            metadata = _without_bare_nan(self._workload) if reader_class(name).assumes_metadata else None
            if metadata is None:
                raise
            return _checksums(name, self._workload, metadata)


def _pairs(workload: Workload) -> Iterator[tuple[str, str]]:
    """Yield pairs of readers with different decoders, those asked first that stand for theirs at the front.

    Two with the same client come last, and only for a key that nothing has to encode.
    """
    stacks = itertools.combinations(representatives().values(), 2)
    pairs = [pair for one, other in stacks for pair in itertools.product(one, other)]
    shares = {pair: len({reader_class(name).client for name in pair}) == 1 for pair in pairs}
    yield from (pair for pair in pairs if not shares[pair])
    if _PLAIN.fullmatch(joined(workload.target.prefix, workload.array.key)):
        yield from (pair for pair in pairs if shares[pair])


def _without_bare_nan(workload: Workload) -> dict[str, Any] | None:
    """Return the array's metadata without its attributes where NaN stands bare in these; else None.

    Python writes it so, and most libraries refuse the whole document. Attributes say nothing of the elements.
    """
    with reaching(workload.target):
        document = fetched(open_store(workload.target), workload.array.metadata_key)
    try:
        msgspec.json.decode(document)
    except msgspec.DecodeError:
        fields: dict[str, Any] = decoded(document)
        return {name: value for name, value in fields.items() if name != "attributes"}
    return None


def _checksums(reader: str, workload: Workload, metadata: Mapping[str, Any] | None = None) -> str:
    """Return the checksums of what one reader returns, read in a process of its own, by the metadata given if any."""
    worker = WorkerProcess(reader_class(reader))
    try:
        request = {"op": "open", "workload": msgspec.to_builtins(workload), "metadata": metadata}
        worker.require(request, timeout=OPEN_SECONDS)
        answer = worker.require({"op": "checksums"}, timeout=turn_deadline(workload))
    finally:
        worker.stop()
    return told(answer, "reads_crc32c", str)

"""Whether the network limit stands on a plateau: what it fetches, and with twice the connections and threads."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from harness.results.intervals import Interval, of_processes
from harness.results.metrics import gbits, quotient
from harness.results.sample import NETWORK_LIMIT, THROWN_AWAY, Sample
from harness.results.sessions import by_session
from harness.results.slower import same_rounds
from harness.results.sweeps import SweptValue, as_fields

SCHEMA = 1

GAIN = 0.03
"""How much less time twice the connections and threads may take on a plateau."""

BODIES = {NETWORK_LIMIT: "kept", THROWN_AWAY: "thrown away"}
"""What becomes of the bodies, by the reader that fetches them."""


class Held(SweptValue, frozen=True, kw_only=True):
    """What was measured of the limit in one shape."""

    reader: str
    """One of `BODIES`."""
    threads: int
    """That fetch."""

    def figure(self, key: str) -> Interval | None:
        """Return one of `FIGURES`, with the interval over processes or rounds; None where it is unknown."""
        return of_processes([FIGURES[key](sample) for sample in group] for group in by_session(self.samples))


FIGURES: Mapping[str, Callable[[Sample], float | None]] = {
    "seconds": lambda sample: sample.seconds,
    "bodies_gbit_s": lambda sample: gbits(sample.fetched_bytes, sample.seconds),
    "connections": lambda sample: sample.max_in_flight,
    "cores": lambda sample: quotient(sample.cpu_seconds, sample.seconds),
    "store_cores": lambda sample: quotient(sample.store_cpu_seconds, sample.seconds),
}
"""What is told of each shape: seconds; Gbit/s of bodies, indexes among them; requests that the store saw under way at
once, each on a connection of its own; processors that its process and the store's kept busy."""


class Plateau(msgspec.Struct, frozen=True, kw_only=True):
    """The limit as a workload has it and with twice the connections and threads, bodies kept and thrown away."""

    schema: int
    started: str
    """Local time with its offset, ISO 8601."""
    label: str
    """The workload's."""
    target: str
    """Its identity."""
    digest: str
    link_gbit_s: float | None
    """What the link carries; None where it has no limit, or is not known."""
    cores: int
    """Those that all may run on."""
    sessions: int
    shapes: list[Held]
    """Of each of `BODIES` two: as asked, then doubled."""

    def of(self, reader: str) -> tuple[Held, Held]:
        """Return the two shapes of one of `BODIES`."""
        first, doubled = (one for one in self.shapes if one.reader == reader)
        return first, doubled

    def doubled(self, reader: str) -> Interval | None:
        """Return the time with twice the connections and threads over that without, in the same rounds."""
        first, doubled = self.of(reader)
        return same_rounds(doubled.samples, first.samples)

    def holds(self, reader: str) -> bool | None:
        """Whether it stands on a plateau; None where that is not sure, or nothing was measured."""
        ratio = self.doubled(reader)
        if ratio is None or not ratio.sure:
            return None
        if ratio.low > 1 - GAIN:
            return True
        return False if ratio.high < 1 - GAIN else None

    def keeping(self) -> Interval | None:
        """Return the time with bodies kept over that with bodies thrown away, in the same rounds."""
        return same_rounds(self.of(NETWORK_LIMIT)[0].samples, self.of(THROWN_AWAY)[0].samples)


def report(plateau: Plateau) -> dict[str, Any]:
    """Return a plateau as JSON, with the figures of each shape and the answers beside the samples."""
    fields: dict[str, Any] = msgspec.to_builtins(plateau)
    for shape, told in zip(plateau.shapes, fields["shapes"], strict=True):
        told["figures"] = {key: as_fields(shape.figure(key)) for key in FIGURES}
    fields["plateaus"] = {
        bodies: {"holds": plateau.holds(reader), "doubled_over_single": as_fields(plateau.doubled(reader))}
        for reader, bodies in BODIES.items()
    }
    fields["kept_over_thrown_away"] = as_fields(plateau.keeping())
    return fields

"""Sweeps: one setting over several values, measured in shuffled rounds; as JSON, and kept beside asv's results."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.errors import MeasurementError
from harness.paths import contents, write_atomically
from harness.results.intervals import Interval, of_processes
from harness.results.knee import Knee, knee
from harness.results.metrics import METRICS
from harness.results.sample import NETWORK_LIMIT, Sample
from harness.results.sessions import by_session
from harness.store.state import Profile

SCHEMA = 1

SUFFIX = ".sweep"  # asv reads every *.json below its results directory


class SweptValue(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one reader with one number of requests in flight."""

    in_flight: int
    """Asked for."""
    variant: str = ""
    """Of the network limit: the client and plan that measured."""
    samples: list[Sample]
    na: str | None = None
    error: str | None = None


class SweptReader(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one reader, its values in ascending order."""

    reader: str
    versions: dict[str, str]
    values: list[SweptValue]

    def knee(self) -> Knee | None:
        """Return the fewest requests in flight with nearly the best throughput; None without a sample."""
        return knee([one.in_flight for one in self.values], _rounds(self.values))


class InFlightSweep(msgspec.Struct, frozen=True, kw_only=True):
    """Throughput of readers over the number of requests in flight that they are asked for."""

    schema: int
    kind: str = "in-flight"
    started: str
    """Local time with its offset, ISO 8601."""
    label: str
    """The workload's."""
    target: str
    """Its identity."""
    digest: str
    """The workload's, with its own number of requests in flight."""
    service: Profile | None
    """The embedded store's service time; None elsewhere."""
    cores: int
    """Those that readers may run on."""
    machine_cores: int | None = None
    """Those that they share with the embedded store; None in older reports."""
    reads: int
    """Selections of the workload."""
    concurrent_reads: int
    array_bytes: int
    sessions: int
    readers: list[SweptReader]

    def figure(self, value: SweptValue, key: str) -> Interval | None:
        """Return one of `FIGURES` of a value, with the interval over its processes or rounds; None where unknown."""
        of = FIGURES[key]
        return of_processes([of(sample, self) for sample in group] for group in by_session(value.samples))


FIGURES: Mapping[str, Callable[[Sample, InFlightSweep], float | None]] = {
    "array_gbit_s": lambda sample, sweep: METRICS["array_gbits"].of(sample, sweep.reads),
    "read_seconds": lambda sample, sweep: sample.seconds * min(sweep.concurrent_reads, sweep.reads) / sweep.reads,
    "peak_rss_bytes": lambda sample, _: sample.peak_rss_bytes,
    "max_in_flight": lambda sample, _: sample.max_in_flight,
}
"""What a sweep tells of each value. A read's seconds are those of one that is alone, or by Little's law the mean of
those that are under way together. The network limit's bytes are not decoded, but counted as the array's."""


def _rounds(values: Sequence[SweptValue]) -> list[list[list[float | None]]]:
    """Return seconds by process, round and value."""
    sessions: dict[int | None, dict[int | None, list[float | None]]] = {}
    for place, value in enumerate(values):
        for sample in value.samples:
            rounds = sessions.setdefault(sample.session, {})
            rounds.setdefault(sample.round_number, [None] * len(values))[place] = sample.seconds
    return [list(rounds.values()) for rounds in sessions.values()]


def report(sweep: InFlightSweep) -> dict[str, Any]:
    """Return a sweep as JSON, with the figures of each value and the knee of each reader beside the samples."""
    fields: dict[str, Any] = msgspec.to_builtins(sweep)
    for reader, told in zip(sweep.readers, fields["readers"], strict=True):
        told["knee"] = msgspec.to_builtins(reader.knee())
        for value, of in zip(reader.values, told["values"], strict=True):
            of["figures"] = {key: as_fields(sweep.figure(value, key)) for key in FIGURES}
    return fields


def as_fields(found: Interval | None) -> dict[str, Any] | None:
    """Return an interval as JSON; None where it is unknown, and without ends where there is none."""
    if found is None:
        return None
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return fields if found.sure else fields | dict.fromkeys(("low", "high", "coverage"))


def best(sweep: InFlightSweep) -> float:
    """Return the highest throughput of the final array in Gbit/s, the network limit's included; 0 without a sample."""
    known = [sweep.figure(value, "array_gbit_s") for reader in sweep.readers for value in reader.values]
    return max((one.median for one in known if one is not None), default=0.0)


def limit(sweep: InFlightSweep) -> SweptReader | None:
    """Return the network limit's row; None where it was not asked for."""
    return next((reader for reader in sweep.readers if reader.reader == NETWORK_LIMIT), None)


def now() -> str:
    """Return when a sweep starts."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def keep(conf: Any, folder: Path, machine: str, sweep: InFlightSweep) -> Path:
    """Keep a sweep beside the results of a loaded asv configuration, in the place of an older one of the same.

    Parameters
    ----------
    folder
        Where the configuration's relative paths start.
    machine
        asv's name of this machine.
    """
    place = "".join(letter if letter.isalnum() else "-" for letter in sweep.target)
    path: Path = folder / conf.results_dir / machine / "sweeps" / f"{sweep.kind}-{place[:60]}-{sweep.digest}{SUFFIX}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, msgspec.json.encode(sweep) + b"\n")
    return path


def of(conf: Any, folder: Path) -> list[InFlightSweep]:
    """Return the sweeps of a loaded asv configuration, the newest first; its relative paths start at `folder`.

    Raises
    ------
    MeasurementError
        One is damaged.
    """
    paths = sorted((folder / conf.results_dir).glob(f"*/sweeps/*{SUFFIX}"))
    return sorted(map(load, paths), key=lambda sweep: datetime.datetime.fromisoformat(sweep.started), reverse=True)


def load(path: Path) -> InFlightSweep:
    """Return a kept sweep; a MeasurementError says that it is damaged, or of another version."""
    try:
        sweep = msgspec.json.decode(contents(path), type=InFlightSweep)
        datetime.datetime.fromisoformat(sweep.started)
    except (OSError, msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise MeasurementError(f"the sweep {path} cannot be read: {error}") from error
    if sweep.schema != SCHEMA:
        raise MeasurementError(f"the sweep {path} has schema {sweep.schema}; this version reads {SCHEMA}")
    return sweep

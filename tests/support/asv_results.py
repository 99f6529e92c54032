"""What asv itself recorded, as tidy records: a second source beside the pass records, which come from us."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asv.benchmarks import Benchmarks
from asv.config import Config
from asv.results import Results, iter_results

from harness.errors import BadUseError, MeasurementError
from harness.results.records import tags as tags_of

_SHORT = 8


@dataclass(frozen=True, kw_only=True)
class Record:
    """One value that asv tracked, with its samples where they were recorded."""

    commit: str
    """Tag where the commit has one, else its first 8 digits."""
    date: int
    """Commit date, milliseconds since 1970."""
    environment: dict[str, str | None]
    pattern: str
    """The benchmark's class, e.g. ``ChunksOfOneShard``."""
    metric: str
    """The method without ``track_``, e.g. ``seconds``."""
    unit: str
    reader: str
    parameters: dict[str, str]
    """All parameters but the reader."""
    value: float
    """Median of the samples, in `unit`; NaN where the reader cannot do the workload."""
    samples: tuple[float, ...]

    @property
    def workload(self) -> str:
        """The pattern and what it was asked for, e.g. ``ChunksOfOneShard small gap=1``."""
        shown = [value if name == "dataset" else f"{name}={value}" for name, value in self.parameters.items()]
        return " ".join([self.pattern, *shown])

    @property
    def variant(self) -> str:
        """What a table's column stands for: the commit, and the zarr of a matrix environment where there is one."""
        return self.environment.get("zarr") or self.commit


def load(config: Path) -> list[Record]:
    """Return the tracked values of all result files of an asv configuration, in commit order.

    Raises
    ------
    BadUseError
        No such configuration, or no results yet.
    MeasurementError
        A results file is damaged.
    """
    if not config.is_file():
        raise BadUseError(f"there is no asv configuration {config}")
    conf = Config.load(str(config))
    conf.results_dir = str(config.parent / conf.results_dir)
    try:
        known = dict(Benchmarks.load(conf).items())
        tags = tags_of(config.parent / conf.repo)
        records = [r for result in iter_results(conf.results_dir) for r in _records(result, known, tags)]
    except Exception as error:
        if not any(Path(conf.results_dir).glob("*/*.json")):
            raise BadUseError(
                f"no results in {conf.results_dir}: run `make bench`, or `asv run --config {config.name}`"
            ) from error
        raise MeasurementError(f"the results in {conf.results_dir} cannot be read: {error}") from error
    return sorted(records, key=lambda record: (record.date, record.variant))


def _records(result: Results, known: dict[str, Any], tags: Mapping[str, str]) -> Iterator[Record]:
    for key in result.get_all_result_keys() & known.keys():
        benchmark = known[key]
        if "reader" not in benchmark["param_names"] or ".track_" not in key:
            continue
        values = result.get_result_value(key, benchmark["params"])
        samples = result.get_result_samples(key, benchmark["params"]) or [None] * len(values)
        for combination, value, sampled in zip(itertools.product(*benchmark["params"]), values, samples, strict=True):
            parameters = dict(zip(benchmark["param_names"], (v.strip("'") for v in combination), strict=True))
            if value is None:  # failed: recorded nothing
                continue
            _, pattern, method = key.rsplit(".", 2)
            yield Record(
                commit=tags.get(result.commit_hash, result.commit_hash[:_SHORT]),
                date=result.date or 0,
                environment=dict(result.params),
                pattern=pattern,
                metric=method.removeprefix("track_"),
                unit=benchmark["unit"],
                reader=parameters.pop("reader"),
                parameters=parameters,
                value=math.nan if value is None else value,
                samples=tuple(sampled or ()),
            )

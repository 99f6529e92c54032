"""Whether a turn without a discarded execution measures the same: passes in both ways, in turns (docs/bench.md).

``zcb store start --profile s3 --link auto``, ``zcb data create --target embedded --preset demo``, then
``python -m studies.turns``.
"""

import statistics
from collections import defaultdict

from harness.measure.conductor import Conductor, Plan
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters

READERS = ("zarr-python+fsspec", "zarr-python+obstore", "zarrista", "tensorstore", "zarrs-planned")
READS = {"chunks_of_one_shard": Parameters(gap=0), "chunks_of_many_shards": Parameters(shards=16)}
PASSES, SAMPLES = 4, 6


def main() -> None:
    """Print each reader's medians in ms, pass by pass, with a discarded execution and without."""
    target = resolve("embedded")
    for pattern, asked in READS.items():
        workload = create_workload(pattern, target, dataset="small", parameters=asked)
        medians: dict[bool, dict[str, list[float]]] = {True: defaultdict(list), False: defaultdict(list)}
        for number in range(PASSES):
            for discards in (True, False) if number % 2 else (False, True):
                plan = Plan(
                    samples=SAMPLES, seed=number, always_discards=discards, readers_between_limits=1 if discards else 2
                )
                with Conductor(READERS, plan=plan) as conductor:
                    for row in conductor.measure(workload):
                        medians[discards][row.reader].append(1e3 * statistics.median(s.seconds for s in row.samples))
        for reader, usual in medians[True].items():
            without = medians[False][reader]
            ratio = statistics.median(without) / statistics.median(usual)
            print(f"{workload.label} {reader}: {_line(usual)} discarding, {_line(without)} not: {ratio:.3f}")  # noqa: T201


def _line(values: list[float]) -> str:
    return " ".join(f"{value:.1f}" for value in values)


if __name__ == "__main__":
    main()

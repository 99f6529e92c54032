"""What studies/survey_tables.py prints of survey files: medians, ratios, who is n/a, and rankings that turn over."""

import json
import statistics

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from studies.survey_tables import survey_tables
from tests.support import passes

GIB = 2**30
LIMIT = 0.04


def report(reader, median, *, target="embedded:s3", seed=1, settings=None, plan="exact", **reason):
    """A report as a survey writes it: seven processes of three rounds; none where there is a reason."""
    draw = np.random.default_rng(seed)
    samples = [
        passes.sample(
            median * float(np.exp(draw.normal(0, 0.01))), LIMIT, GIB, session=1 + n // 3, round_number=n + 1,
            cpu_seconds=2.0, store_cpu_seconds=0.5,
        )
        for n in range(0 if reason else 21)
    ]  # fmt: skip
    return {
        "reader": reader,
        "workload": {
            "pattern": "chunks_of_one_shard",
            "array": {"key": "demo/small"},
            "parameters": {"gap": 3},
            "in_flight": 100,
            "array_bytes": GIB,
        },
        "target": target,
        "settings": settings or {},
        "samples": msgspec.to_builtins(samples),
        "network_limit": {"seconds": [LIMIT] * 8, "variant": f"network-limit+rust {plan}"},
    } | reason


@pytest.fixture
def printed(tmp_path):
    def run(*surveys, options=()):
        names = [tmp_path / f"{number}.json" for number, _ in enumerate(surveys)]
        for name, reports in zip(names, surveys, strict=True):
            name.write_text(json.dumps(reports))
        result = CliRunner().invoke(survey_tables, [*map(str, names), *options], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    return run


def row(lines, reader):
    (found,) = [line for line in lines if line.startswith(f"| {reader} |")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_table_has_medians_ratios_and_reasons(printed):
    tuned = report("zarrs+tuned", 0.06, settings={"task_per_shard": True})
    lines = printed([report("zarrs", 0.08), tuned, report("dask+tuned", 0, na="not tuned")])
    assert lines[0] == "**chunks_of_one_shard, demo/small, gap 3**"
    _, milliseconds, ratio, requests, cpu = row(lines, "zarrs")
    median = statistics.median(
        statistics.median(sample["seconds"] for sample in report("zarrs", 0.08)["samples"][n : n + 3])
        for n in range(0, 21, 3)
    )
    assert milliseconds.split(" ")[0] == f"{1e3 * median:.1f}"
    low, high = map(float, milliseconds.split("[")[1].strip("]").split(","))
    assert low < 1e3 * median < high
    assert ratio.startswith("2.0")
    assert requests == "10, 98"
    assert cpu == "2, 0.500"
    assert row(lines, "network-limit+rust exact")[1] == "40"
    assert "`zarrs+tuned`: task_per_shard=True. `dask+tuned`: n/a: not tuned." in lines
    assert not any(line.startswith("| dask+tuned") for line in lines)


def test_a_short_table_has_a_row_for_each_workload_and_tuned_readers_apart(printed):
    here = [report("zarrs", 0.08), report("tensorstore", 0.06, seed=2), report("zarrs+tuned", 0.05, seed=3)]
    here.append(report("dask", 0, error="it broke"))
    long, lines = printed(here), printed(here, options=["--short"])
    of = {name: row(long, name)[1:] for name in ("zarrs", "tensorstore", "zarrs+tuned")}
    tables = [line.strip("| ").split(" | ") for line in lines if line.startswith("| chunks_of_one_shard")]
    assert tables[0][1:] == [*("; ".join(of[name][:2]) for name in ("zarrs", "tensorstore")), "40"]
    assert tables[1][1:] == ["; ".join(of[name][2:]) for name in ("zarrs", "tensorstore")]
    assert tables[2][1:] == ["; ".join(of["zarrs+tuned"][:2]), "40"]
    assert tables[3][1:] == ["; ".join(of["zarrs+tuned"][2:])]
    assert [line for line in lines if line.startswith("| ms")] == [
        "| ms; times slower | zarrs | tensorstore | network-limit |",
        "| ms; times slower | zarrs+tuned | network-limit |",
    ]
    assert lines[-1] == "chunks_of_one_shard, demo/small, gap 3: `dask`: failed: it broke."


def test_a_second_target_stands_beside_with_its_tail_and_what_turns_over(printed):
    here = [report("one", 0.05), report("other", 0.06, seed=2), report("third", 0.09, seed=3)]
    there = [
        report(name, median, target="embedded:s3-tail", seed=seed, plan="whole")
        for name, median, seed in (("one", 0.09, 4), ("other", 0.07, 5), ("third", 0.12, 6))
    ]
    lines = printed(here, there)
    cells = row(lines, "one")
    slowest = sorted(sample["seconds"] for sample in there[0]["samples"])
    assert cells[6] == f"{1e3 * slowest[19]:.1f}"  # the 95th percentile of 21
    assert cells[5].startswith("90") or cells[5].startswith("89")
    turned = [line for line in lines if line.startswith("| chunks_of_one_shard, demo/small, gap 3 |")]
    assert len(turned) == 1
    assert "| one | other |" in turned[0]
    assert row(lines, "network-limit+rust exact, network-limit+rust whole")[1:6:4] == ["40", "40"]

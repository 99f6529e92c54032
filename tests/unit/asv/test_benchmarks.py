"""What asv sees of benchmarks/: the same names and parameters as ever, and quickly."""

import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys

import pytest

import benchmarks
from harness.asv import recorded, tracked
from harness.paths import ROOT
from harness.workload import cases
from harness.workload.patterns import PATTERNS

READERS = [
    "zarr-python+fsspec",
    "zarr-python+obstore",
    "zarr-python+obstore+fused",
    "xarray",
    "dask",
    "icechunk",
    "zarrs-python+obstore",
    "tensorstore",
    "zarrista",
    "zarrs",
    "zarrs-planned",
]
TUNED = [
    "zarr-python+fsspec+tuned",
    "zarr-python+obstore+tuned",
    "xarray+tuned",
    "dask+tuned",
    "icechunk+tuned",
    "zarrs-python+obstore+tuned",
    "tensorstore+tuned",
    "zarrista+tuned",
    "zarrs+tuned",
]
PLAIN = ["zarr-python+fsspec", "zarr-python+obstore", "zarr-python+obstore+fused"]
MAIN = ["zarrs+main", "zarrs-planned+main"]
EVERY = [*READERS, *TUNED, *MAIN]
BOTH = ["small", "large"]

PARAMETERS = {
    "stream.Stream": {"reader": EVERY, "dataset": ["large"]},
    "whole_array.WholeArray": {"reader": EVERY, "dataset": BOTH},
    "whole_array.PlainWholeArray": {"reader": PLAIN, "dataset": ["large"]},
    "chunks_of_one_shard.ChunksOfOneShard": {"reader": EVERY, "dataset": BOTH, "gap": [0, 1, 3, 15]},
    "chunks_of_one_shard.PlainChunksOfOneShard": {"reader": PLAIN, "dataset": ["small"], "gap": [0, 15]},
    "chunks_of_many_shards.ChunksOfManyShards": {"reader": EVERY, "dataset": ["small"], "shards": [1, 4, 16, 64]},
    "chunks_of_many_shards.ChunksOfManyLargeShards": {"reader": EVERY, "dataset": ["large"], "shards": [1, 4]},
    "chunks_of_many_shards.PlainChunksOfManyShards": {"reader": PLAIN, "dataset": ["small"], "shards": [16]},
    "random_crops.RandomCrops": {"reader": EVERY, "dataset": BOTH, "crop": ["1x64x64", "4x128x128"]},
    "random_crops.PlainRandomCrops": {"reader": PLAIN, "dataset": ["small"], "crop": ["4x128x128"]},
    "headline_3004.Headline3004": {"reader": EVERY, "reads": [1]},
    "headline_3004.PlainHeadline3004": {"reader": PLAIN, "reads": [1]},
    "timelines.Timelines": {"reader": EVERY, "read": ["one shard", "many shards", "whole array"]},
    "training.Training": {"arm": ["memory", *READERS]},
}
"""asv keeps results by these: a value that changes parts a benchmark's old figures from its new ones."""

HEAVY = (
    "numpy",
    "scipy",
    "obstore",
    "psutil",
    "numcodecs",
    "zarr",
    "zarrs",
    "zarrista",
    "tensorstore",
    "google_crc32c",
    "dpkt",
    "rich",
    "click",
    "jinja2",
    "pyroute2",
)


def classes():
    for info in pkgutil.iter_modules(benchmarks.__path__):
        module = importlib.import_module(f"benchmarks.{info.name}")
        for name, found in vars(module).items():
            if inspect.isclass(found) and found.__module__ == module.__name__:
                yield f"{info.name}.{name}", found


def test_old_results_stay_comparable():
    found = {name: dict(zip(each.param_names, each.params, strict=True)) for name, each in classes()}
    assert found.keys() >= PARAMETERS.keys()  # a pattern may be added
    for name, known in PARAMETERS.items():
        assert list(found[name]) == list(known), name
        for axis, values in found[name].items():  # a reader or a case may be added
            assert [value for value in values if value in known[axis]] == known[axis], (name, axis)


def test_every_pass_is_set_up_by_its_own_class():
    # asv tells passes apart by the line of `setup_cache`: one that is inherited would be shared.
    passes = [each for _, each in classes() if issubclass(each, tracked.LookedUp)]
    assert len(passes) >= 6
    assert all("setup_cache" in vars(each) for each in passes)


@pytest.mark.parametrize("module", sorted({name.partition(".")[0] for name, _ in classes()}))
def test_importing_a_benchmark_is_cheap(module):
    asked = f"import sys, benchmarks.{module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_asv_asks_for_no_row_that_is_not_there():
    of_asv = [(name, use) for name in PATTERNS for use in ("asv", "quick", "plain")]
    timed_by_asv = {
        module for module, _, name in (key.partition(".") for key in PARAMETERS) if name.startswith("Plain")
    }
    for name, use in (pair for pair in of_asv if pair[1] != "plain" or pair[0] in timed_by_asv):
        for part in ({"only": "large"}, {"without": "large"}) if name == "chunks_of_many_shards" else ({},):
            grid = cases.grid(name, use, **part)
            assert set(itertools.product(*grid.values)) == set(grid.cases), (name, use)


def test_a_quick_grid_is_part_of_the_whole_one(monkeypatch):
    whole, recordings = tracked.grid("chunks_of_one_shard"), recorded.reads()
    monkeypatch.setenv("ZCB_GRID", "quick")
    quick = tracked.grid("chunks_of_one_shard")
    assert 0 < len(quick.cases) < len(whole.cases)
    assert quick.cases.items() <= whole.cases.items()
    assert 0 < len(recorded.reads()) < len(recordings)
    assert tracked.grid("chunks_of_one_shard", "plain").cases  # that one has no quick form


def test_a_pass_can_be_of_some_readers(monkeypatch):
    monkeypatch.setenv("ZCB_READERS", "zarrs,tensorstore,unknown")
    assert tracked.chosen(READERS) == ["tensorstore", "zarrs"]


def test_a_malformed_file_of_cases_ends_asv_with_a_line(tmp_path, monkeypatch):
    (tmp_path / "workloads.toml").write_text("presets = 1")
    monkeypatch.setenv("ZCB_WORKLOADS", str(tmp_path / "workloads.toml"))
    for reading in (lambda: tracked.grid("whole_array"), recorded.reads):
        with pytest.raises(SystemExit, match=r"^zcb: .*workloads\.toml: presets: Expected"):
            reading()

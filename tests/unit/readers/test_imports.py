"""What a reader's process loads: its own libraries, and of the harness's none that a figure could be charged with."""

import json
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import msgspec
import pytest
from packaging.requirements import Requirement

from harness.paths import ROOT
from harness.readers import all_readers, reader_class
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.patterns import Parameters
from setup_data import presets, repository, write
from setup_data.bucket import ensure_bucket

WORKER = """
import json, os, sys
from harness.readers import worker
made = worker.Worker(worker.reader_class(sys.argv[1]))
for request in json.loads(sys.stdin.readline()):
    answer = made.answer(json.dumps(request).encode())
    assert not {"error", "na"} & answer.keys(), answer
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), flush=True)
os._exit(0)  # as a worker ends: threads of a library can abort an interpreter that leaves otherwise
"""
"""A worker that opens a workload and takes a sample."""

ALONE = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
if "zarr" in sys.argv:
    import zarr.storage
    zarr.create_array(zarr.storage.MemoryStore(), shape=(4,), chunks=(2,), shards=(4,), dtype="u1")[...]
if "dask" in sys.argv:
    import dask.array
    dask.array.zeros(1).compute(scheduler="threads")
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
"""Libraries by themselves: they load what they find, as zarr does with fsspec and, by entry points, with pipelines, and
dask with scipy and distributed."""

EVERY = ("msgspec", "numpy", "google-crc32c")
"""What any worker needs for a workload and its truth."""

PYTHON = [name for name, reader in all_readers().items() if reader.is_python]


@pytest.fixture(scope="module")
def requests(embedded_store):
    target = resolve("embedded")
    ensure_bucket(target)
    (spec,) = presets.specs("tiny", ("small",))
    write.write(open_store(target), spec)
    repository.write(target, spec)
    work = create_workload("chunks_of_one_shard", target, dataset="tiny/small", parameters=Parameters(gap=1))
    return [{"op": "open", "workload": msgspec.to_builtins(work)}, {"op": "sample"}]


def loaded(script, *arguments, given=""):
    """The distributions whose modules a process has loaded at its end."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    of = packages_distributions()
    return {plain(found) for module in json.loads(done.stdout.splitlines()[-1]) for found in of.get(module, ())}


def plain(name):
    return name.lower().replace("_", "-")


def with_dependencies(names):
    """The distributions and all that they cannot do without."""
    found, left = set(), [plain(name) for name in names]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            needed = map(Requirement, distribution(name).requires or ())
            left += [plain(one.name) for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def strange(name, requests, script=WORKER):
    """The distributions that a reader's worker loads and neither needs nor finds by its own libraries."""
    libraries = [*reader_class(name).packages, *EVERY]
    seen = loaded(script, name, given=json.dumps(requests)) - with_dependencies(libraries) - {"zarr-cloud-bench"}
    return seen - loaded(ALONE, *(library.replace("-", "_") for library in libraries)) if seen else seen


@pytest.mark.parametrize("name", PYTHON)
def test_a_worker_loads_no_library_that_is_not_its_readers_own(requests, name):
    opened, sample = requests
    assert strange(name, [opened, sample | {"variant": reader_class(name)().variants()[0]}]) == set()


def test_a_library_that_slips_in_is_seen(requests):
    script = WORKER.replace("import json, os, sys", "import json, os, sys, numcodecs, obstore, psutil", 1)
    assert strange("tensorstore", requests, script) >= {"numcodecs", "obstore", "psutil"}

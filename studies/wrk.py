"""The network limit against wrk on the same byte ranges of the same store, turn by turn (docs/limit.md).

``zcb store start --profile loopback``, then ``python studies/wrk.py``; wrk has to be installed.
"""

import re
import statistics
import subprocess
import tempfile

import msgspec
from click.testing import CliRunner

from harness.datasets.indexes import read_indexes
from harness.measure.process import WorkerProcess
from harness.readers import limit_clients, reader_class
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.selections import chunks_by_shard, wanted_chunks
from setup_data.cli import data

SHAPES = {
    "16 KiB": ["--shape", "4096,64,128", "--chunks", "1,64,128", "--shards", "64,64,128"],
    "1 MiB": ["--shape", "256,512,1024", "--chunks", "1,512,1024", "--shards", "64,512,1024"],
}
"""uint16 without compression: 64 MiB in ranges of 16 KiB, 256 MiB in ranges of 1 MiB."""
TURNS = 9
SAMPLES = 9
LUA = """
local ranges = {%s}
local turn = 0
request = function()
  turn = turn %% #ranges + 1
  local one = ranges[turn]
  return wrk.format("GET", one[1], {["Range"] = one[2]})
end
"""


def main() -> None:
    """Print ranges per second of each client of the limit and of wrk, and the limit's share of wrk's."""
    for name, shape in SHAPES.items():
        dataset = "limit" + name.replace(" ", "").lower()
        create = ["create", "--target", "embedded", "--name", dataset, *shape, "--codec", "none"]
        CliRunner().invoke(data, create, catch_exceptions=False)
        workload = create_workload("whole_array", resolve("embedded"), dataset=f"custom/{dataset}")
        turns = [(*(client(reader, workload) for reader in limit_clients()), wrk(workload)) for _ in range(TURNS)]
        shares = [max(ours) / theirs for *ours, theirs in turns]
        *ours, theirs = (statistics.median(column) for column in zip(*turns, strict=True))
        rates = ", ".join(f"{rate:.0f} {reader}" for rate, reader in zip(ours, limit_clients(), strict=True))
        spread = f"{min(shares):.2f} to {max(shares):.2f} in {TURNS} turns"
        print(f"{name}: ranges/s {rates}, {theirs:.0f} wrk; share {statistics.median(shares):.2f} ({spread})")  # noqa: T201


def client(reader: str, workload: Workload) -> float:
    """Return the ranges per second of one of the limit's clients with each chunk's own range."""
    worker = WorkerProcess(reader_class(reader))
    try:
        worker.ask({"op": "open", "workload": msgspec.to_builtins(workload)}, timeout=60)
        worker.ask({"op": "sample", "variant": "exact", "discard": True}, timeout=60)
        answers = [worker.ask({"op": "sample", "variant": "exact"}, timeout=60) for _ in range(SAMPLES)]
    finally:
        worker.stop()
    return workload.wanted_chunks / statistics.median(float(answer["timed"]["seconds"]) for answer in answers)


def wrk(workload: Workload) -> float:
    """Return the requests per second of wrk over the workload's chunks, 100 connections, 3 s."""
    array, target = workload.array, workload.target
    by_shard = chunks_by_shard(array, list(wanted_chunks(array, workload.reads[0])))
    lines = []
    for shard, index in read_indexes(target, array, list(by_shard)).items():
        path = f"/{target.bucket}/{array.key}/{array.object_key(shard)}"
        spans = zip(index.offsets.ravel().tolist(), index.lengths.ravel().tolist(), strict=True)
        lines += [f'{{"{path}", "bytes={begin}-{begin + length - 1}"}}' for begin, length in spans]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % ",".join(lines))
        script.flush()
        command = ["wrk", "-t2", "-c100", "-d3s", "-s", script.name, str(target.endpoint)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in shown:
        raise RuntimeError(shown)
    found = re.search(r"Requests/sec:\s*([\d.]+)", shown)
    assert found is not None, shown  # noqa: S101
    return float(found[1])


if __name__ == "__main__":
    main()

"""The network limit against wrk and a plain C program, on the same byte ranges of the same store, turn by turn.

``zcb store start --profile loopback``, then ``python -m studies.wrk``; wrk and a C compiler have to be installed.
Programs that keep what they fetch are held against each other, and those that throw it away (docs/limit.md).
"""

import re
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from click.testing import CliRunner

from harness.datasets.indexes import read_indexes
from harness.measure.process import WorkerProcess
from harness.readers import limit_clients, reader_class
from harness.results.sample import THROWN_AWAY
from harness.targets.resolve import resolve
from harness.workload.create import create_workload
from harness.workload.model import Workload
from harness.workload.selections import chunks_by_shard, wanted_chunks
from setup_data.cli import data
from studies.sendfile import compiled

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
PLAIN_C, WRK = "plain C", "wrk"
AGAINST = {PLAIN_C: tuple(limit_clients()), WRK: (THROWN_AWAY,)}
"""A program -> the clients of the limit that do with bodies what it does."""

Span = tuple[str, int, int]
"""A path, its first byte and its last."""


@click.command()
def main() -> None:
    """Print ranges per second of each program, and the limit's share of those that do the same with bodies."""
    with tempfile.TemporaryDirectory() as folder:
        program = compiled(Path(folder))
        for name, shape in SHAPES.items():
            dataset = "limit" + name.replace(" ", "").lower()
            create = ["create", "--target", "embedded", "--name", dataset, *shape, "--codec", "none"]
            CliRunner().invoke(data, create, catch_exceptions=False)
            workload = create_workload("whole_array", resolve("embedded"), dataset=f"custom/{dataset}")
            turns = [_turn(workload, program) for _ in range(TURNS)]
            click.echo(f"{name}: ranges/s {', '.join(_rates(turns))}; {'; '.join(_shares(turns))}")


def _turn(workload: Workload, program: Path) -> dict[str, float]:
    """Return the ranges per second of each program."""
    ranges = list(spans(workload))
    found = {reader: client(reader, workload) for reader in (*limit_clients(), THROWN_AWAY)}
    return found | {PLAIN_C: plain_c(program, ranges, workload), WRK: wrk(ranges, workload)}


def _rates(turns: list[dict[str, float]]) -> Iterator[str]:
    for name in turns[0]:
        yield f"{statistics.median(turn[name] for turn in turns):.0f} {name}"


def _shares(turns: list[dict[str, float]]) -> Iterator[str]:
    for theirs, ours in AGAINST.items():
        shares = [max(turn[name] for name in ours) / turn[theirs] for turn in turns]
        spread = f"{min(shares):.2f} to {max(shares):.2f} in {TURNS} turns"
        yield f"share of {theirs} {statistics.median(shares):.2f} ({spread})"


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


def spans(workload: Workload) -> Iterator[Span]:
    """Yield what the workload's chunks are to be asked for by."""
    array, target = workload.array, workload.target
    by_shard = chunks_by_shard(array, list(wanted_chunks(array, workload.reads[0])))
    for shard, index in read_indexes(target, array, list(by_shard)).items():
        path = f"/{target.bucket}/{array.key}/{array.object_key(shard)}"
        for begin, length in zip(index.offsets.ravel().tolist(), index.lengths.ravel().tolist(), strict=True):
            yield path, begin, begin + length - 1


def plain_c(program: Path, ranges: list[Span], workload: Workload) -> float:
    """Return the ranges per second of a C program that keeps bodies in new memory, a thread for each connection."""
    lines = "".join(f"{path} {first} {last}\n" for path, first, last in ranges)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(lines)
        file.flush()
        port = str(workload.target.endpoint).rpartition(":")[2]
        command = [str(program), "keep", port, file.name, str(workload.in_flight), str(SAMPLES)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return len(ranges) / statistics.median(map(float, shown.split()))


def wrk(ranges: list[Span], workload: Workload) -> float:
    """Return the requests per second of wrk over the workload's chunks in 3 s."""
    table = ",".join(f'{{"{path}", "bytes={first}-{last}"}}' for path, first, last in ranges)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(LUA % table)
        script.flush()
        command = ["wrk", "-t2", f"-c{workload.in_flight}", "-d3s", "-s", script.name, str(workload.target.endpoint)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in shown:
        raise RuntimeError(shown)
    found = re.search(r"Requests/sec:\s*([\d.]+)", shown)
    assert found is not None, shown  # noqa: S101
    return float(found[1])


if __name__ == "__main__":
    main()

"""What writing a data set costs before anything is sent: chunks encoded by one thread and on all cores (docs/data.md).

``python -m studies.encoding table`` encodes shards of both arrays, each turn in fresh processes: by one thread, by a
thread and by a process a core, with the memory that is freed kept, as ``zcb data create`` has it, and by threads that
give it back, as the C library does by itself.
"""

import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import click

from harness.machine.cpu import cores
from harness.machine.memory import keep_freed
from setup_data import encode, presets

_DATASETS = (("big", "large"), ("demo", "small"))
_NBYTES = 512 << 20
"""Decoded bytes that each process encodes in a turn."""


class _Way(NamedTuple):
    """How shards are encoded."""

    processes: int
    threads: int
    """In each process."""
    kept: bool
    """Whether freed memory is kept."""


@click.group()
def main() -> None:
    """Measure how fast shards are encoded."""


@main.command()
@click.option("--turns", type=click.IntRange(1), default=3, show_default=True)
def table(turns: int) -> None:
    """Print a Markdown table: MB/s (10^6) of stored bytes, the median of the turns."""
    every = cores()
    ways = (_Way(1, 1, True), _Way(1, every, True), _Way(every, 1, True), _Way(1, every, False))
    click.echo(
        "| array | processes | threads | freed memory | MB/s as stored | cores kept busy |\n|---|---|---|---|---|---|"
    )
    for (preset, name), way in itertools.product(_DATASETS, ways):
        found = sorted(_turn(preset, name, way) for _ in range(turns))
        rate, busy = found[len(found) // 2]
        memory = "kept" if way.kept else "given back"
        click.echo(f"| `{preset}/{name}` | {way.processes} | {way.threads} | {memory} | {rate:.0f} | {busy:.2f} |")


def _turn(preset: str, name: str, way: _Way) -> tuple[float, float]:
    """Return MB/s as stored and the cores kept busy, of all processes of one turn together."""
    words = ["turn", preset, name, str(way.threads), *(["--keep"] if way.kept else [])]
    command = [sys.executable, "-m", "studies.encoding", *words]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(way.processes)]
    printed = [tuple(map(float, one.communicate()[0].split())) for one in started]
    if any(one.returncode for one in started):
        raise click.ClickException(f"{' '.join(words)} failed")
    rate, busy = map(sum, zip(*printed, strict=True))
    return rate, busy


@main.command(hidden=True)
@click.argument("preset")
@click.argument("name")
@click.argument("threads", type=int)
@click.option("--keep", is_flag=True)
def turn(preset: str, name: str, threads: int, keep: bool) -> None:
    """Encode once, and print MB/s as stored and how many cores it kept busy."""
    if keep:
        keep_freed()
    (spec,) = presets.specs(preset, (name,))
    pieces = list(encode.pieces(spec))
    shards = itertools.islice(encode.shards(spec), max(1, _NBYTES // spec.shard_nbytes))
    work = [(shard, first, end) for shard in shards for first, end in pieces]
    began, spent = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        stored = sum(pool.map(lambda one: len(encode.encode_piece(spec, *one).body), work))
    seconds = time.perf_counter() - began
    click.echo(f"{stored / seconds / 1e6} {(time.process_time() - spent) / seconds}")


if __name__ == "__main__":
    main()

"""What writing a data set costs before anything is sent: chunks encoded by one thread and by all cores' (docs/data.md).

``python -m studies.encoding table`` encodes shards of both arrays, each turn in a fresh process: with the memory
that is freed kept, as ``zcb data create`` has it, and given back, as the C library does by itself.
"""

import itertools
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import click

from harness.machine.cpu import cores
from harness.machine.memory import keep_freed
from setup_data import encode, presets

_DATASETS = (("big", "large"), ("demo", "small"))
_NBYTES = 512 << 20
"""Decoded bytes of a turn."""


@click.group()
def main() -> None:
    """Measure how fast shards are encoded."""


@main.command()
@click.option("--turns", type=click.IntRange(1), default=3, show_default=True)
def table(turns: int) -> None:
    """Print a Markdown table: MB/s (10^6) of stored bytes, the median of the turns."""
    click.echo("| array | freed memory | threads | MB/s as stored | cores kept busy |\n|---|---|---|---|---|")
    for (preset, name), threads in itertools.product(_DATASETS, sorted({1, cores()})):
        for kept in (True, False):
            found = sorted(_turn(preset, name, threads, kept) for _ in range(turns))
            rate, busy = found[len(found) // 2]
            how = "kept" if kept else "given back"
            click.echo(f"| `{preset}/{name}` | {how} | {threads} | {rate:.0f} | {busy:.2f} |")


def _turn(preset: str, name: str, threads: int, kept: bool) -> tuple[float, float]:
    words = ["turn", preset, name, str(threads), *(["--keep"] if kept else [])]
    done = subprocess.run([sys.executable, "-m", "studies.encoding", *words], stdout=subprocess.PIPE, check=True)
    rate, busy = map(float, done.stdout.split())
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

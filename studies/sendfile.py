"""Ranges from the embedded store, from nginx and by plain ``sendfile``: Gbit/s, and CPU time of the server alone.

``python -m studies.sendfile``; the client throws what it receives away in the kernel (studies/sendfile.c).
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

SOURCE = Path(__file__).with_suffix(".c")
STORE = Path(__file__).parent.parent / "rust/target/release/s3-store"
RANGES = (16 << 10, 32 << 10, 256 << 10, 1 << 20, 8 << 20)
OBJECT_BYTES = 256 << 20
OBJECT = "/bench/object"
PLAIN = "sendfile"
NGINX = """
worker_processes auto; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nodelay on; keepalive_requests 1000000000; open_file_cache max=1000;
  server {{ listen 127.0.0.1:{port}; root {folder}/root; }}
}}
"""


class Server(NamedTuple):
    """A server under way."""

    name: str
    port: int
    pid: int


class Rate(NamedTuple):
    """What one server did in one turn, or the medians of several."""

    gbit_s: float
    cpu_s_per_gb: float
    """CPU time of the server for 1e9 bytes of bodies, s."""
    bodies_per_cpu_s: float


def compiled(folder: Path) -> Path:
    """Compile the plain server and the client.

    Raises
    ------
    click.UsageError: there is no C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise click.UsageError("a C compiler (cc) is needed")
    program = folder / "sendfile"
    subprocess.run([compiler, "-O2", "-pthread", "-o", program, SOURCE], check=True)
    return program


@contextmanager
def running(command: list[str | Path]) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the block ends."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the line by which a server says that it is ready.

    Raises
    ------
    click.ClickException: it ended without one.
    """
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise click.ClickException(f"{process.args!r} does not start")
    return line


@contextmanager
def plain_server(program: Path, file: Path) -> Iterator[Server]:
    """Serve one file by plain ``sendfile``."""
    with running([program, "serve", file]) as process:
        yield Server(PLAIN, int(first_line(process)), process.pid)


@contextmanager
def store_server(name: str, binary: Path, root: Path) -> Iterator[Server]:
    """Serve a root by the embedded store without a service time."""
    with running([binary, "--root", root, "--profile", "loopback"]) as process:
        ready = json.loads(first_line(process))
        yield Server(name, int(ready["endpoint"].rpartition(":")[2]), process.pid)


@contextmanager
def nginx_server(folder: Path, port: int) -> Iterator[Server]:
    """Serve ``folder/root`` by nginx."""
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, port=port))
    with running(["nginx", "-c", config]) as process:
        while not (folder / "nginx.pid").exists() and process.poll() is None:
            time.sleep(0.05)
        yield Server("nginx", port, process.pid)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its living children, s, in the kernel's ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


def turn(program: Path, server: Server, size: int, range_bytes: int, connections: int, seconds: float) -> Rate:
    """Let the client ask for random aligned ranges of an object of ``size`` bytes for a while.

    Raises
    ------
    click.ClickException: an answer was wrong, or none came.
    """
    before = cpu_seconds(server.pid)
    numbers = [str(number) for number in (size, range_bytes, connections, seconds)]
    words = [str(program), "drain", str(server.port), OBJECT, *numbers]
    shown = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    spent = cpu_seconds(server.pid) - before
    requests, received, took, errors = map(float, shown.split())
    if errors or not requests or not spent:
        raise click.ClickException(f"{server.name}: {requests:.0f} answers, {errors:.0f} errors, {spent} s of CPU")
    return Rate(received * 8e-9 / took, spent / (received / 1e9), requests / spent)


def medians(turns: list[Rate]) -> Rate:
    """Return the median of each number."""
    return Rate(*(statistics.median(column) for column in zip(*turns, strict=True)))


def table(rates: dict[int, dict[str, Rate]]) -> str:
    """Return a Markdown table: each server's rates by range, and its share of sendfile's bodies per CPU second."""
    lines = [
        "| range | server | Gbit/s | CPU s per GB | bodies per CPU s | share of sendfile |",
        "|---|---|---|---|---|---|",
    ]
    for range_bytes, by_server in rates.items():
        for name, rate in by_server.items():
            share = rate.bodies_per_cpu_s / by_server[PLAIN].bodies_per_cpu_s
            size = f"{range_bytes >> 10} KiB" if range_bytes < 1 << 20 else f"{range_bytes >> 20} MiB"
            row = (size, name, f"{rate.gbit_s:.1f}", f"{rate.cpu_s_per_gb:.3f}", f"{rate.bodies_per_cpu_s:,.0f}")
            lines.append(f"| {' | '.join(row)} | {share:.2f} |")
    return "\n".join(lines)


def measured(
    servers: list[Server], one: Callable[[Server, int], Rate], turns: int, ranges: tuple[int, ...] = RANGES
) -> dict[int, dict[str, Rate]]:
    """Let the servers take turns at each range and return their medians."""
    rates: dict[int, dict[str, Rate]] = {}
    for range_bytes in ranges:
        rounds = [{server.name: one(server, range_bytes) for server in servers} for _ in range(turns)]
        rates[range_bytes] = {
            server.name: medians([by_server[server.name] for by_server in rounds]) for server in servers
        }
    return rates


@click.command()
@click.option("--turns", default=3, show_default=True, type=click.IntRange(1))
@click.option("--seconds", default=2.0, show_default=True, type=click.FloatRange(0.1), help="Length of a turn.")
@click.option("--connections", default=8, show_default=True, type=click.IntRange(1, 1000))
@click.option("--nginx-port", default=28080, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--store",
    "binaries",
    default=[STORE],
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A binary of the store; several are held against each other.",
)
def main(turns: int, seconds: float, connections: int, nginx_port: int, binaries: tuple[Path, ...]) -> None:
    """Print the table of this machine."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # nginx's workers are another user's.
        folder.chmod(0o755)
        file = folder / "root" / OBJECT.strip("/")
        file.parent.mkdir(parents=True)
        file.write_bytes(os.urandom(OBJECT_BYTES))
        program = compiled(folder)
        servers = [stack.enter_context(plain_server(program, file))]
        for number, binary in enumerate(binaries, start=1):
            root = folder / f"store{number}"
            # A root is one store's alone; the page cache has the object once.
            (root / "bench").mkdir(parents=True)
            (root / OBJECT.strip("/")).hardlink_to(file)
            name = "store" if len(binaries) == 1 else f"store {number}"
            servers.append(stack.enter_context(store_server(name, binary, root)))
        if shutil.which("nginx"):
            servers.append(stack.enter_context(nginx_server(folder, nginx_port)))
        else:
            click.echo("nginx: n/a, it is not installed")
        click.echo(f"{os.cpu_count()} cores, {connections} connections, medians of {turns} turns of {seconds} s")

        def one(server: Server, range_bytes: int) -> Rate:
            return turn(program, server, OBJECT_BYTES, range_bytes, connections, seconds)

        click.echo(table(measured(servers, one, turns)))


if __name__ == "__main__":
    main()

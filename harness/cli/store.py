"""``zcb store``: start, stop and look at the embedded object store."""

import time
from typing import Any

import click
import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from harness.cli.values import FiniteRange
from harness.errors import StoreError
from harness.store import lifecycle, state
from harness.store.control import FAULTS, FaultRule, StoreControl, StoreCounters
from harness.store.lifecycle import StoreSettings
from harness.store.state import PROFILES, Link, StoreState

_AMOUNT = FiniteRange(min=0)
_NUMBER = click.IntRange(1, 10**9)
_OFF = "off"
_MIB = 2**20


def _say(line: str) -> None:
    click.echo(f"zcb store: {line}", err=True)


@click.group()
def store() -> None:
    """Run the embedded S3 store, with the service time of a real one."""


@store.command(epilog="\b\nExample:\n  zcb store start --profile s3-tail\n  export AWS_ENDPOINT_URL=$(zcb store start)")
@click.option(
    "--profile",
    type=click.Choice(PROFILES),
    default="s3",
    show_default=True,
    help="Service time: none; 20 ms, 90 MB/s per connection, 2 Gbit/s; or the same with a tail.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to serve on (default: any free one).")
@click.option(
    "--root",
    metavar="DIR",
    help="Directory of the objects, made where it is not there (default: below the state directory).",
)
@click.option("--auth", is_flag=True, help="Demand signatures; keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.")
@click.option(
    "--tls", is_flag=True, help="Serve by TLS; --json names the file of the authority to trust (docs/store.md)."
)
@click.option(
    "--key-log", is_flag=True, help="Keep the secrets of TLS connections, so that `zcb read --timeline` sees the wire."
)
@click.option(
    "--link",
    type=click.Choice(["lo", "veth", "auto"]),
    default="lo",
    show_default=True,
    help="Network to serve on: loopback; a virtual network that counts packets (docs/network.md); that where allowed.",
)
@click.option("--first-byte-ms", type=_AMOUNT, help="Median time to the first byte; 0 is none.")
@click.option("--first-byte-p99-ms", type=_AMOUNT, help="Its 99th percentile; 0 is constant.")
@click.option("--connection-mb-s", type=_AMOUNT, help="Rate of each connection in MB/s; 0 is no limit.")
@click.option("--link-gbit-s", type=_AMOUNT, help="Rate of all connections in Gbit/s; 0 is no limit.")
@click.option(
    "--requests-per-second-per-prefix", type=_AMOUNT, help="GETs and HEADs of one data set's folder; more get 503."
)
@click.option("--idle-seconds", type=_AMOUNT, help="When a connection without a request is closed; 0 is never.")
@click.option("--seed", type=click.IntRange(min=0), help="Seed of the draws.")
@click.option(
    "--log-errors", is_flag=True, help="Keep causes of status 500 and above in the state directory: s3-store.log."
)
@click.option("--json", "as_json", is_flag=True, help="Print the store's whole state as JSON instead of its URL.")
def start(as_json: bool, **values: Any) -> None:
    """Start the store in the background and print its URL."""
    running = lifecycle.start(StoreSettings(**values))
    click.echo(msgspec.json.encode(running).decode() if as_json else running.endpoint)


@store.command(epilog="\b\nExample:\n  zcb store stop")
def stop() -> None:
    """Stop the store that `start` started; its objects stay."""
    _say("stopped" if lifecycle.stop() else "nothing was running")


@store.command(epilog="\b\nExample:\n  zcb store status --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(as_json: bool) -> None:
    """Show the running store and its counters; exit code 3 when none is running."""
    running = state.running()
    if running is None and as_json:
        click.echo('{"schema":1,"running":false}')
    running = running or state.require_running()
    with StoreControl(running.control) as control:
        counters, faults = control.counters(), control.faults()
    uptime = _uptime_s(running.pid)
    if as_json:
        click.echo(_as_json(running, counters, faults, uptime))
    else:
        _show(running, counters, faults, uptime)


@store.command(
    epilog="\b\nExample:\n  zcb store fault slow-down --first 2 --count 3\n  zcb store fault off\n\n\b\nFaults:\n"
    + "\n".join(f"  {name:15} {meaning}" for name, meaning in FAULTS.items())
)
@click.argument("fault", metavar="FAULT|off", type=click.Choice([*FAULTS, _OFF]))
@click.option(
    "--kind",
    type=click.Choice(["index", "data", "metadata"]),
    default="data",
    show_default=True,
    help="Which requests: of a shard's index, of chunks, of zarr.json.",
)
@click.option("--first", type=_NUMBER, default=1, show_default=True, help="The first of these that meets the fault.")
@click.option("--every", type=_NUMBER, default=1, show_default=True, help="From there on, every so many.")
@click.option(
    "--count", type=click.IntRange(0, 10**9), default=1, show_default=True, help="How many in all; 0 has no end."
)
def fault(fault: str, **which: Any) -> None:
    """Let the running store spoil answers, on purpose; `off` ends it.

    Requests are counted anew for each sample. What is measured meanwhile is flagged, and no benchmark records it.
    """
    with StoreControl(state.require_running().control) as control:
        if fault == _OFF:
            control.clear_faults()
            _say("no faults are injected")
            return
        rule = FaultRule(fault=fault, **which)
        control.add_fault(rule)
    _say(f"injecting {_in_words(rule)}; `zcb store fault off` ends it")


def _uptime_s(pid: int) -> float:
    try:
        return time.time() - psutil.Process(pid).create_time()
    except psutil.NoSuchProcess as error:
        raise StoreError("the store ended just now: start it again with `zcb store start`") from error


def _as_json(running: StoreState, counters: StoreCounters, faults: list[FaultRule], uptime_s: float) -> str:
    report = {"schema": 1, "running": True, **msgspec.to_builtins(running)}
    report |= {"uptime_seconds": round(uptime_s, 3), "counters": msgspec.to_builtins(counters)}
    report |= {"faults": msgspec.to_builtins(faults)}
    return msgspec.json.encode(report).decode()


def _show(running: StoreState, counters: StoreCounters, faults: list[FaultRule], uptime_s: float) -> None:
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    rows = {
        "endpoint": running.endpoint + (" (signatures demanded)" if running.auth else ""),
        **({"trust": running.ca} if running.ca else {}),
        "profile": _profile_in_words(running),
        "link": _link_in_words(running.link),
        "objects in": running.root,
        "process": f"{running.pid}{_whose()}, up {_duration(uptime_s)}",
        "requests": f"{counters.requests:,} ({_kinds(counters)})",
        "errors": _errors(counters),
        "faults": _faults_in_words(faults, counters),
        "bytes": f"{counters.bytes_out / _MIB:,.1f} MiB out, {counters.bytes_in / _MIB:,.1f} MiB in",
        "in flight": f"{counters.in_flight} now, {counters.max_in_flight} at most",
        "connections": f"{counters.connections_open} open, {counters.connections_accepted:,} accepted",
        "costs": f"{counters.cpu_seconds:,.1f} CPU s, at most {counters.peak_rss_bytes / _MIB:,.0f} MiB",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _whose() -> str:
    owner = state.other_owner()
    return "" if owner is None else f" (it is {owner}'s)"


def _profile_in_words(running: StoreState) -> str:
    profile = running.profile
    parts = {
        "first byte {:g} ms": profile.first_byte_ms,
        "p99 {:g} ms": profile.first_byte_p99_ms,
        "{:g} MB/s per connection": profile.connection_mb_s,
        "{:g} Gbit/s in all": profile.link_gbit_s,
        "{:g} requests/s per prefix": profile.requests_per_second_per_prefix,
        "connections closed after {:g} s": profile.idle_seconds,
    }
    words = [text.format(value) for text, value in parts.items() if value]
    return f"{profile.name}: {', '.join(words) or 'as fast as the machine'}"


def _link_in_words(link: Link) -> str:
    if link.name == "lo":
        return "loopback: bytes on the wire are not counted"
    parts = [
        f"{link.gbit_s:g} Gbit/s with headers" if link.gbit_s else "as fast as the machine",
        f"packets of {link.mtu} bytes",
        f"segmentation offload {'on' if link.segmentation_offload else 'off'}",
    ]
    return f"{link.name}, interface {link.interface}: {', '.join(parts)}"


def _kinds(counters: StoreCounters) -> str:
    kinds = {
        "index": counters.get_index,
        "data": counters.get_data,
        "metadata": counters.get_metadata,
        "head": counters.head,
        "put": counters.put,
        "list": counters.list,
        "delete": counters.delete,
        "other": counters.other,
    }
    return ", ".join(f"{name} {count:,}" for name, count in kinds.items() if count) or "none yet"


def _errors(counters: StoreCounters) -> str:
    by_status = ", ".join(f"{count:,} x {code}" for code, count in sorted(counters.errors_by_status.items()))
    return f"{counters.errors:,}" + (f" ({by_status})" if by_status else "")


def _faults_in_words(faults: list[FaultRule], counters: StoreCounters) -> str:
    injected = f"{counters.faults:,} injected, {counters.retries:,} requests sent again"
    if not faults:
        return f"off ({injected})" if counters.faults else "off"
    return f"ON: {'; '.join(map(_in_words, faults))} ({injected})"


def _in_words(rule: FaultRule) -> str:
    which = f"{rule.kind} request {rule.first}"
    if rule.count != 1:
        step = "" if rule.every == 1 else f" every {rule.every}"
        which += f" and on{step}" if rule.count == 0 else f" and the next{step}, {rule.count} in all"
    return f"{rule.fault} for {which}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"

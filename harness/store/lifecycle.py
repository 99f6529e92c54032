"""The embedded store's life: build it when it is out of date, start it detached, stop exactly it."""

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from harness.errors import BadUseError, StoreError, unknown
from harness.machine import rust
from harness.machine.environment import sealed
from harness.machine.interrupts import terminated_with_cleaning
from harness.paths import write_atomically
from harness.store import state, veth
from harness.store.state import KEY_VARIABLES, PROFILES, Link, StoreState, state_file, store_dir, tls_dir

_log = logging.getLogger(__name__)

_READY_WITHIN_S = 30.0
_STOPS_WITHIN_S = 5.0
_POLL_S = 0.01


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a store is started; None leaves a value to the profile, port 0 to the system."""

    profile: str = "s3"
    port: int = 0
    root: str | None = None
    """Directory of the objects; None is ``objects`` beside the store's state."""
    auth: bool = False
    """Demand signatures with the keys in `KEY_VARIABLES`."""
    tls: bool = False
    """Serve by TLS, with a certificate of this state directory's own authority."""
    key_log: bool = False
    """Keep the secrets of TLS connections in `state.key_log`, so that captured packets can be read."""
    first_byte_ms: float | None = None
    first_byte_p99_ms: float | None = None
    connection_mb_s: float | None = None
    link_gbit_s: float | None = None
    requests_per_second_per_prefix: float | None = None
    idle_seconds: float | None = None
    seed: int | None = None
    log_errors: bool = False
    """Write the cause of every answer of status 500 and above to the store's log."""
    link: Literal["auto", "lo", "veth"] = "lo"
    """Network to serve on; ``auto`` is veth where that is allowed, else lo, and any that a running store has."""

    def resolved(self) -> "StoreSettings":
        """Return the settings with an absolute root, so that they mean the same from every directory."""
        root = Path(self.root) if self.root else store_dir() / "objects"
        return msgspec.structs.replace(self, root=str(root.resolve()))

    def arguments(self) -> list[str]:
        """Return the command-line arguments of the binary; the keys are not among them."""
        values = msgspec.structs.asdict(self)
        switches = [f"--{name.replace('_', '-')}" for name in ("auth", "log_errors") if values.pop(name)]
        values.pop("link")
        values.pop("key_log")
        values["tls"] = tls_dir() if values["tls"] else None
        given = [f"--{name.replace('_', '-')}={value}" for name, value in values.items() if value is not None]
        return [*given, *switches]


class _Record(StoreState, frozen=True, kw_only=True):
    """The state file: the ready line and how the store was asked for."""

    settings: StoreSettings | None = None


_children: dict[int, subprocess.Popen[bytes]] = {}  # started by this process, which has to collect them


def start(settings: StoreSettings) -> StoreState:
    """Start the store and return its state when it serves; one with the same settings is left running.

    Parameters
    ----------
    settings
        How to start it.

    Raises
    ------
    BadUseError
        Unusable settings, no keys for `auth`, no compiler, or a store with other settings is running.
    StoreError
        The port is taken, or the store did not become ready within 30 s.
    """
    settings = settings.resolved()
    _check(settings)
    with _only_one():
        found = _running()
        if found:
            _demand_same(found, settings)
            _demand_same_keys(found)
            _log.info(f"already running (pid {found.pid})")
            return found
        return _launch(rust.STORE.build(), _with_link(settings))


def stop() -> bool:
    """Stop the recorded store, by force when SIGTERM has no effect for 5 s; return whether one was there."""
    with _only_one():
        found = _running()
        if found:
            _end(found)
        veth.remove(veth.interface_name())
        state_file().unlink(missing_ok=True)
        return found is not None


@contextlib.contextmanager
def restarting() -> Iterator[Callable[..., StoreState]]:
    """Yield what starts the running store anew, at the same address, with some settings changed, given by name.

    At the end of the block, also where SIGTERM ends it, it is started once more with the settings that it had.

    Raises
    ------
    StoreError
        None is running, or another program started it.
    """
    state.require_running()
    found = _running()
    if found is None or found.settings is None:
        raise StoreError("how the running store was started is not known: `zcb store stop`, then `zcb store start`")
    had = msgspec.structs.replace(found.settings, port=urlsplit(found.endpoint).port or 0)

    def again(**changes: float) -> StoreState:
        stop()
        return start(msgspec.structs.replace(had, **changes))

    with terminated_with_cleaning():
        try:
            yield again
        finally:
            again()


def _check(settings: StoreSettings) -> None:
    if settings.profile not in PROFILES:
        raise unknown("profile", settings.profile, PROFILES)
    if settings.key_log and not settings.tls:
        raise BadUseError("--key-log keeps the secrets of TLS: give --tls too")
    missing = [name for name in KEY_VARIABLES if not os.environ.get(name)]
    if settings.auth and missing:
        raise BadUseError(f"--auth takes the keys from the environment: set {' and '.join(missing)}")


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Keep other starts and stops of the same state directory waiting."""
    try:
        store_dir().mkdir(parents=True, exist_ok=True)
        lock = (store_dir() / "lock").open("wb")
    except OSError as error:
        _demand_own()
        raise BadUseError(f"cannot write to the state directory {store_dir()}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("waiting for another `zcb store` command ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _demand_own() -> None:
    """Raise StoreError where the running store is another user's."""
    owner = state.other_owner()
    if owner is not None and state.running() is not None:
        raise StoreError(f"the store is running, but it is {owner}'s: only they can start and stop it here")


def _running() -> _Record | None:
    if state.running() is None:
        return None
    return msgspec.json.decode(state_file().read_bytes(), type=_Record)


def _demand_same(found: _Record, wanted: StoreSettings) -> None:
    # Any port will do for port 0, so the one it has will, and so will the one that it was given for port 0.
    if found.settings and wanted.port in (0, urlsplit(found.endpoint).port):
        wanted = msgspec.structs.replace(wanted, port=found.settings.port)
    if found.settings and wanted.link == "auto":
        wanted = msgspec.structs.replace(wanted, link=found.settings.link)
    if found.settings != wanted:
        raise BadUseError(
            f"a store with other settings is running (profile {found.profile.name}, link {found.link.name}, "
            f"{found.endpoint}, root {found.root}): stop it first with `zcb store stop`"
        )


def _demand_same_keys(found: _Record) -> None:
    """Refuse a store that demands other keys than the environment has; they are written down nowhere."""
    if found.settings is None or not found.settings.auth:
        return
    given = Path(f"/proc/{found.pid}/environ").read_bytes().split(b"\0")
    if any(os.fsencode(f"{name}={os.environ.get(name)}") not in given for name in KEY_VARIABLES):
        raise BadUseError(
            "a store that demands other keys is running: stop it first with `zcb store stop`, or set "
            f"{' and '.join(KEY_VARIABLES)} to its own"
        )


def _with_link(settings: StoreSettings) -> StoreSettings:
    """Return the settings with the link that ``auto`` means on this machine."""
    if settings.link != "auto":
        return settings
    obstacle = veth.obstacle()
    if obstacle:
        _log.info(f"serving on loopback, so bytes on the wire stay unknown: {obstacle}")
    return msgspec.structs.replace(settings, link="lo" if obstacle else "veth")


def _launch(binary: Path, settings: StoreSettings) -> StoreState:
    _make_root(str(settings.root))
    command: list[str | Path] = [binary, *settings.arguments()]
    if settings.link != "veth":
        veth.remove(veth.interface_name())  # of a store with the other link that was killed
        return _recorded(command, settings, subprocess.Popen, lambda _: Link())
    with veth.Veth() as network:
        return _recorded([*command, *network.arguments()], settings, network.popen, network.cap)


def _recorded(
    command: list[str | Path],
    settings: StoreSettings,
    popen: Callable[..., subprocess.Popen[bytes]],
    cap: Callable[[float | None], Link],
) -> StoreState:
    """Start the store with `popen`, `cap` its link at the profile's rate when it is ready, and write its record."""
    ready, log = store_dir() / "ready.json", store_dir() / "s3-store.log"
    # Files, not pipes: nobody reads any more once the store is ready.
    with ready.open("wb") as stdout, log.open("wb") as stderr:
        process = popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=sealed() | _key_log(settings),
            start_new_session=True,  # outlives the terminal and its Ctrl-C
        )
    try:
        record = _when_ready(process, ready, log)
        link = cap(record.profile.link_gbit_s)
        record = msgspec.structs.replace(
            record,
            settings=settings,
            born=state.birth(process.pid),
            link=link,
            key_log=str(state.key_log()) if settings.key_log else None,
        )
        write_atomically(state_file(), msgspec.json.encode(record) + b"\n")
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        ready.unlink()
    _children[process.pid] = process
    return record


def _key_log(settings: StoreSettings) -> dict[str, str]:
    """Return the variable that names the key log, which is emptied, and readable by its owner alone."""
    path = state.key_log()
    path.unlink(missing_ok=True)  # secrets of a store before
    if not settings.key_log:
        return {}
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0o600)
    return {"SSLKEYLOGFILE": str(path)}


def _make_root(root: str) -> None:
    try:
        Path(root).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadUseError(f"cannot keep objects in {root}: {error.strerror}; --root names another folder") from error


def _when_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> _Record:
    deadline = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < deadline:
        ended = process.poll()
        line = ready.read_bytes()
        if line.endswith(b"\n"):
            return _decoded(line)
        if ended is not None:
            raise _refusal(ended, log)
        time.sleep(_POLL_S)
    raise StoreError(f"the store was not ready within {_READY_WITHIN_S:.0f} s: see {log}")


def _decoded(line: bytes) -> _Record:
    try:
        return msgspec.json.decode(line, type=_Record)
    except msgspec.DecodeError as error:
        raise StoreError(f"the store's ready line is unexpected: {error}") from error


def _refusal(exit_code: int, log: Path) -> BadUseError | StoreError:
    lines = log.read_text(errors="replace").strip().splitlines()
    reason = lines[-1].removeprefix("s3-store: ") if lines else "without a message"
    if exit_code == BadUseError.exit_code:
        return BadUseError(reason)
    return StoreError(f"the store did not start (exit code {exit_code}): {reason}")


def _end(store: StoreState) -> None:
    try:
        handle = os.pidfd_open(store.pid)
    except ProcessLookupError:
        return
    try:
        # The handle pins the process: if it is the store now, no recycled id can be hit afterwards.
        if state.is_alive(store.pid, store.born):
            _signal_until_gone(handle, store.pid)
    finally:
        os.close(handle)
        child = _children.pop(store.pid, None)
        if child:
            child.wait()


def _signal_until_gone(handle: int, pid: int) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLIN)  # readable when the process has ended
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(handle, number)
            if poll.poll(_STOPS_WITHIN_S * 1000):
                return
    except PermissionError as error:
        _demand_own()
        raise StoreError(f"the store (pid {pid}) belongs to another user: they have to stop it") from error
    raise StoreError(f"the store (pid {pid}) does not end, not even by SIGKILL")

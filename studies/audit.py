"""Known vulnerabilities of everything pinned, by databases of advisories that lie in a folder: no network is needed.

``python -m studies.audit DIR`` reads every record below DIR in OSV's format, which OSV's dumps, PyPA's database (YAML)
and the branch ``osv`` of RustSec's have, and compares it with requirements-dev.lock, which holds both locks of Python,
and rust/Cargo.lock (docs/security.md).
"""

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml  # type: ignore[import-untyped]
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from harness.errors import BadUseError, ZcbError

ROOT = Path(__file__).parent.parent
PYPI, CRATES = "PyPI", "crates.io"

_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


class Finding(NamedTuple):
    """A pinned package that an advisory names."""

    package: str
    version: str
    advisory: str
    summary: str
    informational: bool
    """Whether it says that nobody maintains the package or the like, and names no vulnerability."""

    def __str__(self) -> str:
        """Return the line that is printed."""
        kind = "notice" if self.informational else "VULNERABLE"
        return f"{kind}: {self.package} {self.version}: {self.advisory} {self.summary}"


def pinned(root: Path) -> dict[str, dict[str, set[str]]]:
    """Return what the locks of a repository pin: ecosystem -> name -> versions."""
    python, crates = defaultdict(set), defaultdict(set)
    for name, version in _PINNED.findall((root / "requirements-dev.lock").read_text()):
        python[canonicalize_name(name)].add(version)
    for one in tomllib.loads((root / "rust" / "Cargo.lock").read_text())["package"]:
        if "source" in one:  # ours have none
            crates[one["name"]].add(one["version"])
    return {PYPI: dict(python), CRATES: dict(crates)}


def records(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records below a folder, those left out that were withdrawn; other files are passed over."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".yaml")):
        try:
            data = path.read_bytes()
            found = msgspec.json.decode(data) if path.suffix == ".json" else yaml.load(data, yaml.CSafeLoader)
        except (msgspec.DecodeError, yaml.YAMLError, RecursionError) as error:
            raise BadUseError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
        if isinstance(found, dict) and "affected" in found and "withdrawn" not in found:
            yield found


class Known(NamedTuple):
    """What a folder holds of one ecosystem."""

    entries: int
    newest: str
    """Day of the newest advisory: what came later is not known."""


def audit(folder: Path, locks: Mapping[str, Mapping[str, set[str]]]) -> tuple[list[Finding], dict[str, Known]]:
    """Return what the advisories in a folder say of pinned packages, and what it holds of each ecosystem.

    Raises
    ------
    BadUseError
        There are none of an ecosystem: nothing would be known of its packages.
    """
    known, findings = dict.fromkeys(locks, Known(0, "")), []
    for record in records(folder):
        for affected in record["affected"]:
            ecosystem, name = (affected.get("package", {}).get(field, "") for field in ("ecosystem", "name"))
            if ecosystem not in locks:
                continue
            entries, newest = known[ecosystem]
            known[ecosystem] = Known(entries + 1, max(newest, str(record.get("published", ""))[:10]))
            name = canonicalize_name(name) if ecosystem == PYPI else name
            findings += [
                _finding(record, affected, name, version)
                for version in sorted(locks[ecosystem].get(name, ()))
                if is_affected(affected, version, _ORDERS[ecosystem])
            ]
    empty = [ecosystem for ecosystem, found in known.items() if not found.entries]
    if empty:
        raise BadUseError(f"{folder} holds no advisories for {' and '.join(empty)}: nothing would be known of them")
    return sorted(set(findings)), known


def _finding(record: Mapping[str, Any], affected: Mapping[str, Any], name: str, version: str) -> Finding:
    said = str(record.get("summary") or record.get("details", "")).strip().partition("\n")[0][:100]
    informational = (affected.get("database_specific") or {}).get("informational") is not None
    return Finding(name, version, str(record["id"]), said, informational)


def is_affected(affected: Mapping[str, Any], version: str, order: Callable[[str], Any]) -> bool:
    """Whether a version is among those that an entry of a record names, or inside one of its ranges."""
    if version in (affected.get("versions") or ()):
        return True
    ranges = [one for one in affected.get("ranges") or () if one["type"] != "GIT"]
    return any(_is_inside(one["events"], order(version), order) for one in ranges)


def _is_inside(events: list[dict[str, str]], version: Any, order: Callable[[str], Any]) -> bool:
    """Whether the last event that is not above a version leaves it affected."""
    inside = False
    for event in sorted(events, key=lambda event: order(next(iter(event.values())))):
        (kind, limit), *_ = event.items()
        at = order(limit)
        if kind == "introduced" and (limit == "0" or at <= version):
            inside = True
        elif (kind == "fixed" and at <= version) or (kind == "last_affected" and at < version):
            inside = False
    return inside


def _semantic(version: str) -> tuple[Any, ...]:
    """Return the order of a crate's version: numbers, a pre-release before its release, build data left out."""
    core, _, before = version.partition("+")[0].partition("-")
    parts = tuple((not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in before.split(".") if part)
    return tuple(map(int, core.split("."))), not before, parts


def _python(version: str) -> Version:
    try:
        return Version(version)
    except InvalidVersion:  # of the time before PEP 440, which no lock of ours pins
        return Version("0")


_ORDERS: dict[str, Callable[[str], Any]] = {PYPI: _python, CRATES: _semantic}


def main(arguments: list[str]) -> int:
    """Print what the advisories say; 1 where a pinned package is vulnerable."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        raise BadUseError("name the folder that holds the advisories: make audit ADVISORIES=DIR (docs/security.md)")
    locks = pinned(ROOT)
    findings, known = audit(Path(arguments[0]), locks)
    for finding in findings:
        print(finding)  # noqa: T201
    asked = ",\n".join(
        f"{len(locks[name])} packages of {name} against {entries} entries, the newest of {newest}"
        for name, (entries, newest) in known.items()
    )
    bad = sum(not finding.informational for finding in findings)
    print(f"{asked}:\n{bad} known vulnerabilities, {len(findings) - bad} notices")  # noqa: T201
    return 1 if bad else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except ZcbError as failure:
        print(f"audit: {failure}", file=sys.stderr)  # noqa: T201
        sys.exit(failure.exit_code)

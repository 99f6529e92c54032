"""A file of cases with only those that a test wants."""

from pathlib import Path

import msgspec

from harness.workload import cases as known
from harness.workload.cases import Case
from harness.workload.patterns import PATTERNS


def write_cases(path: Path, *cases: Case) -> None:
    """Write a file like workloads.toml, with the same axes."""
    lines = ['presets = ["tiny"]']
    rules = known.load().patterns
    for name in PATTERNS:
        of_pattern = [case for case in cases if case.pattern == name]
        lines += [f"[{name}]", f"axes = {_toml(rules[name].axes)}", "verdict_seconds = 180"]
        lines += ["round_seconds = 10", "cases = ["]
        for case in of_pattern:
            asked = ", ".join(f"{key} = {_toml(value)}" for key, value in case.parameters.given().items())
            uses = msgspec.json.encode(sorted(case.uses)).decode()
            lines.append(f'  {{ dataset = "{case.dataset}", parameters = {{ {asked} }}, uses = {uses} }},')
        lines.append("]")
    path.write_text("\n".join(lines))


def _toml(value: object) -> str:
    return msgspec.json.encode(value).decode()

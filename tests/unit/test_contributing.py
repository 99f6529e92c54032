"""The examples of CONTRIBUTING.md change the repository as it is: what they leave and remove is there.

All but that of a dependency, which tells how one came in.
"""

import re

import pytest

from harness.paths import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text().partition("## How to add a dependency")[0]
CHANGES = [
    (path, hunk)
    for block in re.findall(r"```diff\n(.*?)```", TEXT, re.DOTALL)
    for path, hunks in re.findall(r"^\+\+\+ (\S+)[^\n]*\n(.*?)(?=^\+\+\+ |\Z)", block, re.DOTALL | re.MULTILINE)
    for hunk in hunks.split("@@\n")
    if hunk
]


def test_every_kind_of_example_is_looked_at():
    changed = {path for path, _ in CHANGES}
    assert changed > {"harness/results/metrics.py", "harness/workload/patterns.py", "workloads.toml"}
    assert changed > {"harness/site/__init__.py", "harness/readers/zarr_python_serial.py"}


@pytest.mark.parametrize(("path", "hunk"), CHANGES, ids=lambda value: value.partition("\n")[0])
def test_what_an_example_changes_is_there(path, hunk):
    before = [line[1:] for line in hunk.splitlines() if not line.startswith("+")]
    if not before:
        assert not (ROOT / path).exists()
    else:
        assert "\n".join(before) in (ROOT / path).read_text()


def test_the_example_of_a_pattern_has_the_cases_that_asv_asks_for():
    """asv imports every benchmark, so a pattern without a quick case would end the quick job."""
    assert '"quick"' in TEXT.partition("+++ workloads.toml")[2].partition("```")[0]

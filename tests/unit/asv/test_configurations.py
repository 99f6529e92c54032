"""asv's configurations and the locks: made from one source, and up to date."""

import importlib.metadata
import re
import sys

import grimp
import pytest
from asv.util import ParsedPipDeclaration
from packaging.utils import canonicalize_name

from harness.asv import configurations
from harness.errors import BadUseError
from harness.paths import ROOT

LOCKS = ["requirements.lock", "requirements-dev.lock"]
FOR_FEW = {"distributed", "grimp", "torch"}
"""Imported where only who needs it comes: the extra dask, torch's ``DataLoader``, what writes asv's configurations."""


def test_the_files_are_those_that_are_made():
    assert {path.name for path in ROOT.glob("asv*.conf.json")} == set(configurations.FILES)
    for name, (kind, target) in configurations.FILES.items():
        made = configurations.text_of(configurations.make(kind, target))
        assert (ROOT / name).read_text() == made, f"{name} is out of date: make asv-configs"


@pytest.mark.parametrize(
    ("version", "kept"),
    [("0.8.1.post1", "0.8.1"), ("3.2.2a3004+pr3004", "3.2.2a3004"), ("3.2.0rc1", "3.2.0rc1"), ("26.3", "26.3")],
)
def test_what_asv_keeps_of_a_version(version, kept):
    assert configurations.understood(version) == kept
    assert ParsedPipDeclaration(f"name=={kept}").specification == f"=={kept}"


def test_asv_keeps_every_pin():
    for name, versions in configurations.make("matrix", "t")["matrix"]["req"].items():
        for version in versions:
            assert ParsedPipDeclaration(f"{name}=={version}").specification == f"=={version}", name


def test_what_a_reader_needs_gets_in_with_all_that_this_needs(monkeypatch):
    before = configurations.pins()
    assert not before.keys() & {"rich", "pygments"}
    monkeypatch.setattr(configurations, "_declared", lambda: iter(["rich"]))
    monkeypatch.setattr(configurations, "_imported", lambda: {"msgspec"})
    assert configurations.pins().keys() == {"markdown-it-py", "mdurl", "msgspec", "pip+asv_runner", "pygments", "rich"}


def test_what_is_not_locked_is_named(monkeypatch, tmp_path):
    (tmp_path / "requirements.lock").write_text("asv-runner==0.3.2 \\\n    --hash=sha256:0\nmsgspec==0.22.0 \\\n")
    monkeypatch.setattr(configurations, "_LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(configurations, "_declared", lambda: iter(["six"]))
    monkeypatch.setattr(configurations, "_imported", lambda: {"msgspec"})
    with pytest.raises(BadUseError, match=r"requirements\.lock lacks six: .*make lock"):
        configurations.pins()


def locked(name):
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE))


def test_the_locks_agree():
    runtime, developers = map(locked, LOCKS)
    assert runtime.items() < developers.items()


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_addresses(name):
    text = (ROOT / name).read_text()
    assert "://" not in text
    blocks = re.split(r"^(?=\w)", text, flags=re.MULTILINE)[1:]
    assert len(blocks) == len(locked(name))
    assert all("--hash=sha256:" in block for block in blocks)


def test_whatever_runs_is_locked_for_those_who_only_run_it():
    packages = ("harness", "setup_data", "benchmarks")
    graph = grimp.build_graph(*packages, include_external_packages=True, exclude_type_checking_imports=True)
    names = {module.partition(".")[0] for module in graph.modules} - {*packages, *FOR_FEW} - sys.stdlib_module_names
    owners = importlib.metadata.packages_distributions()
    missing = {name for name in names if canonicalize_name(owners[name][0]) not in locked("requirements.lock")}
    assert missing == set()

"""workloads.toml: each case once, and each can be made; what the file may hold is in tests/e2e/test_bad_input.py."""

import re
from typing import get_args

import pytest

from harness.paths import ROOT
from harness.targets.client import open_store
from harness.targets.resolve import resolve
from harness.verdict.run import Request, cases_of, of_pattern
from harness.workload import cases
from harness.workload.create import create_workload
from harness.workload.patterns import PATTERNS, Parameters, pattern
from setup_data import presets, write
from setup_data.bucket import ensure_bucket

KNOWN = cases.load()


def named(case):
    return f"{case.pattern}-{case.dataset}-{'-'.join(map(str, case.parameters.given().values()))}"


def own_preset(case):
    preset, _, name = case.dataset.rpartition("/")
    return (preset, name) if preset else None


@pytest.mark.parametrize("case", KNOWN.all, ids=named)
def test_every_case_can_be_made_on_the_presets_it_names(case):
    of = [own_preset(case)] if own_preset(case) else [(preset, case.dataset) for preset in KNOWN.presets]
    assert of
    for preset, name in of:
        (spec,) = presets.specs(preset, (name,))
        assert pattern(case.pattern).selections(spec, case.parameters)


@pytest.fixture(scope="module")
def target(embedded_store):
    target = resolve("embedded")
    ensure_bucket(target)
    for spec in presets.specs("tiny", ("small", "large")):
        write.write(open_store(target), spec)
    return target


@pytest.mark.parametrize("case", [case for case in KNOWN.all if not own_preset(case)], ids=named)
def test_every_case_becomes_a_workload(target, monkeypatch, case):
    monkeypatch.setenv("ZCB_PRESET", "tiny")
    made = create_workload(case.pattern, target, dataset=case.dataset, parameters=case.parameters)
    assert (made.pattern, made.array.key, made.parameters) == (case.pattern, f"tiny/{case.dataset}", case.parameters)


def test_every_case_is_used_for_something():
    assert [case for case in KNOWN.all if not (case.uses or case.survey or case.timeline)] == []
    assert {use for case in KNOWN.all for use in case.uses} == set(get_args(cases.Use))


def test_every_pattern_is_measured_compared_and_surveyed():
    assert set(KNOWN.patterns) == set(PATTERNS)
    for name in PATTERNS:
        assert KNOWN.used("asv", pattern=name)
        assert of_pattern(name)
        assert any(case.pattern == name and case.survey for case in KNOWN.all)
    assert KNOWN.used("plain")
    # What asv times by itself is a second source for a row that it tracks.
    assert set(map(named, KNOWN.used("plain"))) <= set(map(named, KNOWN.used("asv")))


def test_the_quick_comparison_is_part_of_the_whole_one():
    quick, usual = KNOWN.used("verdict-quick"), KNOWN.used("verdict")
    assert quick
    assert all(case in usual for case in quick)
    assert not any(case in usual for case in KNOWN.used("verdict-named"))


@pytest.mark.parametrize(
    ("patterns", "quick", "datasets"),
    [
        (["whole_array"], False, ["large", "small"]),
        (["whole_array"], True, ["large", "small"]),
        ([], True, ["small"] * 3),
    ],
)
def test_a_comparison_has_all_cases_of_a_pattern_that_is_named(patterns, quick, datasets):
    request = Request(base="=", head="=", target=resolve("https://localhost/"), patterns=patterns, quick=quick)
    assert [case.dataset for case in cases_of(request)] == datasets


def test_every_pattern_has_a_quick_form():
    for name in PATTERNS:
        quick = KNOWN.used("quick", pattern=name)
        assert quick
        assert all(case in KNOWN.used("asv") for case in quick)


def test_a_grid_holds_the_values_that_asv_shows():
    grid = cases.grid("random_crops")
    assert grid.names == ["dataset", "crop"]
    assert grid.values == [["small", "large"], ["1x64x64", "4x128x128"]]
    assert grid.cases["large", "4x128x128"].parameters == Parameters(crop=(4, 128, 128), crops=64, seed=0)


def test_the_page_of_patterns_names_the_values_that_asv_measures():
    page = (ROOT / "docs" / "patterns.md").read_text()
    told = dict(re.findall(r"^\| `(\w+)` \| .*\| ([^|]*) \|$", page, re.MULTILINE))
    assert told.keys() == set(PATTERNS)
    for name in PATTERNS.keys() - {"headline_3004"}:  # it has one read, in words
        measured = {str(value) for axis in cases.grid(name).values for value in axis} - {"small", "large"}
        assert set(re.findall(r"[\dx]*\d", told[name])) == measured, name

"""The lists of metrics and flags: complete, and what documents show of them."""

import inspect

import pytest

from harness.asv.tracked import Tracked
from harness.results import sample as samples
from harness.results.metrics import METRICS
from harness.results.sample import FLAGS
from studies.document import FILES, TABLES, documented
from tests.support import passes


def test_documents_hold_the_lists():
    for path in FILES:
        text = path.read_text()
        assert text == documented(text), f"{path.name}: run `make docs`"
    found = "".join(path.read_text() for path in FILES)
    for name in TABLES:
        assert found.count(f"<!-- {name} -->\n|") == 1, name


def test_a_document_with_an_old_table_is_found_and_mended():
    (old,) = [path.read_text() for path in FILES if "<!-- metrics -->" in path.read_text()]
    broken = old.replace("| `requests` |", "| `queries` |")
    assert broken != old
    assert documented(broken) == old


@pytest.mark.parametrize("key", METRICS)
def test_every_metric_has_what_is_shown_of_it(key):
    metric = METRICS[key]
    assert metric.title
    assert metric.meaning.endswith(".")
    assert metric.of(passes.sample(0.5, 0.25, 8, nic_rx_bytes=9), 3) is not None
    assert metric.of(passes.sample(0.5, 0.25, 8, nic_rx_bytes=9), 3) >= 0


def test_what_asv_tracks_is_in_the_list_and_better_when_lower():
    tracked = {name.removeprefix("track_") for name, _ in inspect.getmembers(Tracked) if name.startswith("track_")}
    assert tracked == {metric.key for metric in METRICS.values() if metric.asv}
    assert {metric.better for metric in METRICS.values() if metric.asv} == {"lower"}


def test_every_flag_is_in_the_list_with_marks_of_its_own():
    constants = {value for name, value in vars(samples).items() if name.startswith("FLAG_")}
    assert constants == set(FLAGS)
    for marks in ([flag.letter for flag in FLAGS.values()], [flag.mark for flag in FLAGS.values()]):
        assert len(set(marks)) == len(FLAGS)
    assert {len(flag.letter) for flag in FLAGS.values()} == {1}

"""Timeline files: any bytes are a timeline that can be drawn, or refused in one line."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from harness.errors import BadUseError
from harness.timeline import model
from harness.timeline.pictures import ascii_picture, html_page, perfetto_trace, svg_picture
from harness.timeline.schedule.analysis import best_schedule
from tests.support.mutations import fuzzed, mutated, read_or_refused
from tests.unit.timeline.test_pictures import made

GOOD = msgspec.json.encode(made(3))


@fuzzed
@given(data=mutated(GOOD))
def test_any_bytes_are_drawn_or_refused(data):
    timeline = read_or_refused(model.decode, data)
    if timeline is None:
        return
    for draw in (ascii_picture, svg_picture, perfetto_trace, lambda one: html_page([one]), best_schedule):
        assert read_or_refused(lambda _, draw=draw: draw(timeline), data)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("cores", 2**63 - 1, "65536"),
        ("cores", -1, ">= 1"),
        ("cores", 0, ">= 1"),
        ("end_ns", 1, "does not end between its begin and a day later"),
        ("end_ns", 10**40, "end_ns"),
        ("end_ns", 2**61, "does not end between its begin and a day later"),
        ("link_bytes_per_second", 1e-300, ">= 1"),
        ("workload", {"in_flight": 2**62}, "requests in flight"),
        ("workload", {"in_flight": "x"}, "requests in flight"),
        ("chunks.0.copied_ns", 2**62, "copied_ns is more than a day away"),
        ("requests.0.sent_ns", -1, "sent_ns"),
        ("requests.0.bytes", 2**62, "bytes"),
    ],
)
def test_what_no_execution_has_is_refused(field, value, why):
    fields = msgspec.json.decode(GOOD)
    *path, last = field.split(".")
    holder = fields
    for key in path:
        holder = holder[int(key) if key.isdigit() else key]
    holder[last] = value
    with pytest.raises(BadUseError, match=why):
        model.decode(msgspec.json.encode(fields))


def test_an_event_outside_the_execution_is_drawn_at_its_edge():
    timeline = made(1)
    timeline.chunks[0].copied_ns = timeline.begin_ns + 10**13
    assert max(map(len, ascii_picture(timeline).splitlines())) <= 80


def test_a_file_without_an_end_is_not_read_to_it():
    with pytest.raises(BadUseError, match="cannot read /dev/zero: File too large"):
        model.load(Path("/dev/zero"))

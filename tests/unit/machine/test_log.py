"""Lines that our modules log: who sees them, and what they never hold."""

import logging

import msgspec
import pytest

from harness.machine import log
from harness.machine.log import Step, progress_to, reason_in, show_progress, silenced


def test_lines_of_ours_are_shown_once_and_without_secrets():
    seen: list[str] = []
    show_progress(lambda _: None)
    show_progress(seen.append)  # takes the place of the one before
    logging.getLogger("harness.store.lifecycle").info("reading http://me:secret@host/array")
    logging.getLogger("harness.measure.conductor").debug("not for people")
    logging.getLogger("botocore").info("another library's")
    assert seen == ["reading http://...@host/array"]


def test_a_block_has_its_own_lines_beside_the_others():
    shown: list[str] = []
    own: list[str] = []
    show_progress(shown.append)
    with progress_to(own.append):
        logging.getLogger("setup_data.write").info("inside")
    logging.getLogger("setup_data.write").info("after")
    assert (own, shown) == (["inside"], ["inside", "after"])


def test_a_module_is_silent_inside_a_block_only():
    lines: list[str] = []
    with progress_to(lines.append):
        with silenced("setup_data.write"):
            logging.getLogger("setup_data.write").info("inside")
            logging.getLogger("setup_data.verify").info("another's")
        logging.getLogger("setup_data.write").info("after")
    assert lines == ["another's", "after"]


def test_steps_are_appended_to_a_file_and_shown_as_lines(tmp_path):
    lines: list[str] = []
    log.steps_to(tmp_path / "steps")
    show_progress(lines.append)
    log.report(logging.getLogger("harness.measure.conductor"), "round 1", step="whole array", share=0.25)
    log.report(logging.getLogger("harness.measure.conductor"), "round 9", step="whole array", share=2.25)
    logging.getLogger("harness.measure.conductor").info("no step")
    logging.getLogger("harness.measure.conductor").warning("read from http://me:secret@host failed")
    assert lines == ["round 1", "round 9", "no step", "read from http://...@host failed"]
    found = [msgspec.json.decode(line, type=Step) for line in (tmp_path / "steps").read_bytes().splitlines()]
    assert found == [
        Step("whole array", 0.25),
        Step("whole array", 1.0),
        Step("", 0.0, "read from http://...@host failed"),
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            "warming up\nzcb: the store is not running\n\nasv: setup_cache failed (exit status 1)\n",
            "the store is not running",
        ),
        ("Traceback\nValueError: broken\n\n", "ValueError: broken"),
        (
            "· Error running pip\n   ERROR: Failed to build 'zarr'\n· Failed: trying another\n· skipped\n",
            "ERROR: Failed to build 'zarr'",
        ),
        ("  -- RuntimeError: broken at import\nzarr-python failed\n", "-- RuntimeError: broken at import"),
        ("no error at all\nErrors: 0\nthe end", "the end"),
        ("\n", "it printed nothing"),
    ],
)
def test_a_failed_programs_reason_is_our_line_or_the_error_s_or_the_last(output, reason):
    assert reason_in(output) == reason

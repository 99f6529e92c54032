"""Lines that our modules log: who sees them, and what they never hold."""

import logging

from harness.machine.log import progress_to, show_progress, silenced


def test_lines_of_ours_are_shown_once_and_without_secrets():
    seen: list[str] = []
    show_progress(lambda _: None)
    show_progress(seen.append)  # takes the place of the one before
    try:
        logging.getLogger("harness.store.lifecycle").info("reading http://me:secret@host/array")
        logging.getLogger("harness.measure.conductor").debug("not for people")
        logging.getLogger("botocore").info("another library's")
    finally:
        show_progress(lambda _: None)
    assert seen == ["reading http://...@host/array"]


def test_a_block_has_its_own_lines_beside_the_others():
    shown: list[str] = []
    own: list[str] = []
    show_progress(shown.append)
    try:
        with progress_to(own.append):
            logging.getLogger("setup_data.write").info("inside")
        logging.getLogger("setup_data.write").info("after")
    finally:
        show_progress(lambda _: None)
    assert (own, shown) == (["inside"], ["inside", "after"])


def test_a_module_is_silent_inside_a_block_only():
    lines: list[str] = []
    with progress_to(lines.append):
        with silenced("setup_data.write"):
            logging.getLogger("setup_data.write").info("inside")
            logging.getLogger("setup_data.verify").info("another's")
        logging.getLogger("setup_data.write").info("after")
    assert lines == ["another's", "after"]

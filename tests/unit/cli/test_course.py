"""The course of a long job: how far it is and what is left, on a terminal and in a log."""

import io

import pytest
from rich.console import Console

from harness.cli.course import Course, duration


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines(course, console):
    return [line for line in console.file.getvalue().splitlines() if line]


def test_what_is_left_follows_how_fast_the_machine_was(clock):
    course = Course(Console(file=io.StringIO()), clock)
    course.expect({"build": 60.0, "measure": 120.0})
    assert course.seconds_left == 180.0
    clock.now += 120.0  # twice as long as expected
    course.reach("build", 1.0)
    assert course.share == pytest.approx(1 / 3)
    assert course.seconds_left == 240.0
    course.forget("measure")
    assert course.share == 1.0
    assert course.seconds_left == 0.0


def test_an_absurd_pace_is_not_believed(clock):
    course = Course(Console(file=io.StringIO()), clock)
    course.expect({"build": 60.0, "measure": 120.0})
    course.reach("build", 1.0)
    assert course.seconds_left == 60.0  # and not nothing
    clock.now += 6000.0
    assert course.seconds_left == 360.0


def test_a_log_gets_a_line_for_everything_that_is_done_and_none_twice(clock):
    console = Console(file=io.StringIO(), width=80)
    course = Course(console, clock)
    course.expect({"build": 60.0, "measure": 120.0})
    with course, course.step("build"):
        course.reach("build", 0.5)
        clock.now += 61.0
    with course:
        course.reach("measure", 0.0, doing="zarr 3.4.2: one shard")
        course.reach("measure", 0.5, doing="zarr 3.4.2: one shard")
        course.tell("done [of] it")
    assert lines(course, console) == [
        " 0:00  build (0 %, about 3 min left)",
        " 1:01  zarr 3.4.2: one shard (33 %, about 2 min left)",
        " 1:01  done [of] it",
    ]


def test_a_step_that_fails_is_not_done(clock):
    course = Course(Console(file=io.StringIO()), clock)
    course.expect({"build": 60.0})
    with pytest.raises(ValueError, match="broken"), course.step("build"):
        raise ValueError("broken")
    assert course.share == 0.0


def test_a_terminal_gets_a_bar():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Course(console) as course:
        course.expect({"build": 60.0})
        course.reach("build", 0.5)
        course._bar.refresh()
    assert "50 %, less than a minute left" in console.file.getvalue()


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3, "less than a minute"), (70, "about 1 min"), (400, "about 7 min"), (13_860, "about 3.9 hours")],
)
def test_a_time_is_said_as_people_do(seconds, said):
    assert duration(seconds) == said

"""What other programs make of the cores: from made-up clocks, and from a real one that spins."""

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.machine import load
from harness.machine.load import SHORTEST_SECONDS, CpuTimes, OtherPrograms

CORES = sorted(os.sched_getaffinity(0))
STAT = "".join(
    f"cpu{name} {' '.join(map(str, ticks))}\n"
    for name, ticks in [
        ("", [9] * 10),  # the sum of all cores
        *[(core, [100, 10, 50, 1000, 20, 3, 4, 7, 0, 0]) for core in CORES],
        (10_000, [1, 1, 1, 5000, 1, 1, 1, 1, 1, 1]),  # one that this process may not use
    ]
)


def clocks(*readings):
    """A reader of clocks that returns these in turn."""
    left = iter(readings)
    return lambda own: next(left)


def at(now, *, others=0.0, own=0.0):
    """The clocks of a moment until which others and ours had so many seconds of all cores' time."""
    return CpuTimes(now=now, free=len(CORES) * now - others - own, own=own)


def busy(*readings):
    """What is told after a mark at each reading but the last."""
    watched = OtherPrograms(read=clocks(*readings))
    for _ in readings[1:]:
        watched.mark()
    return watched.busy_cores()


def test_our_own_time_is_not_that_of_others():
    assert busy(at(10.0), at(12.0, own=1.5)) == pytest.approx(0)
    assert busy(at(10.0), at(12.0, own=1.5, others=0.5)) == pytest.approx(0.25)


def test_clocks_that_disagree_by_a_tick_are_no_negative_load():
    assert busy(at(10.0), at(12.0, own=0.5, others=-0.02)) == 0


def test_a_long_sample_is_judged_by_itself_and_a_short_one_with_what_was_before_it():
    before, begin = at(10.0), at(11.0, others=1.0)
    assert busy(before, begin, at(12.0, others=1.0)) == pytest.approx(0)
    assert busy(before, begin, at(11.25, others=1.0)) == pytest.approx(1.0 / 1.25)
    assert busy(begin, at(11.0 + 0.9 * SHORTEST_SECONDS, others=1.0)) is None  # nothing was before it


def test_only_the_marks_that_can_matter_are_kept():
    readings = [at(10.0 + 0.1 * number, others=0.01 * number) for number in range(100)]
    watched = OtherPrograms(read=clocks(*readings, at(20.0, others=1.0)))
    for _ in readings:
        watched.mark()
    assert len(watched._readings) <= SHORTEST_SECONDS / 0.1 + 2
    assert watched.busy_cores() == pytest.approx(0.1)


def test_where_the_kernel_does_not_tell_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(load, "_STAT", tmp_path / "none")
    assert load.cpu_times(()) is None
    watched = OtherPrograms()
    watched.mark()
    assert watched.busy_cores() is None


def test_idle_time_and_interrupts_of_the_cores_that_may_be_used_belong_to_no_program():
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert load.free_seconds(STAT) == pytest.approx(len(CORES) * (1000 + 20 + 3 + 4) * tick)
    with pytest.raises(ValueError, match="each core"):
        load.free_seconds(STAT.replace(f"cpu{CORES[-1]} ", "cpu20000 "))


def spin(seconds):
    return [
        sys.executable,
        "-c",
        f"import time; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass",
    ]


def _cpu_times():
    """Return what `load.cpu_times` does, asked again where a process of another test ended in that moment."""
    deadline = time.monotonic() + 10
    while (found := load.cpu_times(())) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert found is not None
    return found


def test_the_time_of_children_is_ours_while_they_live_and_after():
    begin = _cpu_times()
    child = subprocess.Popen([*spin(0.3)[:2], f"{spin(0.3)[2]}\ninput()"], stdin=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 60
        while (living := _cpu_times()).own - begin.own < 0.3 and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        child.communicate()
    ended = _cpu_times()
    assert living.own - begin.own >= 0.3
    assert ended.own >= living.own  # what ended is not forgotten, or others would seem to have had it


@pytest.fixture
def stranger():
    """A process that spins and is no child of this one."""
    shell = ["sh", "-c", '"$0" -c "while True: pass" >&- 2>&- & echo $!', sys.executable]
    pid = int(subprocess.run(shell, capture_output=True, text=True, check=True).stdout)
    yield pid
    os.kill(pid, signal.SIGKILL)


def test_a_program_that_spins_beside_ours_is_seen_unless_it_is_said_to_be_ours(stranger):
    begin, ours = load.cpu_times(()), load.cpu_times((stranger,))
    time.sleep(1)
    spun = time.clock_gettime(load._clock(stranger))
    end, ours_later = load.cpu_times(()), load.cpu_times((stranger,))
    without, with_it = (
        load.busy_with_others(*pair, len(CORES)) * (pair[1].now - pair[0].now)
        for pair in ((begin, end), (ours, ours_later))
    )
    assert spun > 0.1
    assert without - with_it > 0.8 * spun - 0.1

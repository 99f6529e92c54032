"""Memory that a process keeps: fewer pages that the kernel has to clear."""

import subprocess
import sys

from harness.paths import ROOT

CODE = """
import resource, sys
from harness.machine.memory import keep_freed
if sys.argv[1] == "keep":
    keep_freed()
for _ in range(3):
    buffers = [bytes(6 << 20) for _ in range(4)]
    del buffers
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    buffers = [b"x" * (6 << 20) for _ in range(4)]
    del buffers
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    command = [sys.executable, "-c", CODE, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def test_kept_memory_is_not_cleared_again():
    assert faults("keep") * 10 < faults("give back")

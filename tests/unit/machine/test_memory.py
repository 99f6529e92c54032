"""Memory that a process keeps: fewer pages that the kernel has to clear."""

import subprocess
import sys

import pytest

from harness.machine import memory
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


@pytest.mark.parametrize(
    ("kind", "features", "given"),
    [
        ("0x0005", "0110010100", True),
        ("0x0005", "0110000100", False),
        ("0x0001", "0110010100", False),
        (None, "", False),
    ],
)
def test_a_balloon_that_reports_free_pages_gives_them_to_the_host(monkeypatch, tmp_path, kind, features, given):
    if kind is not None:
        device = tmp_path / "virtio0"
        device.mkdir()
        (device / "device").write_text(f"{kind}\n")
        (device / "features").write_text(f"{features:0<64}\n")
    monkeypatch.setattr(memory, "_VIRTIO", tmp_path)
    assert memory.is_given_to_host() == given

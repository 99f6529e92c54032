"""What a command prints arrives, or the command says that it does not; and any terminal shows it."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from harness.paths import ROOT
from harness.timeline.model import save
from tests.unit.timeline.test_pictures import made

FULL = Path("/dev/full")
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def zcb(*arguments, **options):
    command = [sys.executable, "-c", "from harness.cli import command; command()", *map(str, arguments)]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, timeout=120, **options)


@pytest.fixture
def recorded(tmp_path):
    """A file with a timeline whose notes are not ASCII."""
    file = tmp_path / "t.json"
    save(file, msgspec.structs.replace(made(30), notes=["± 3 µs"]))
    return file


@pytest.mark.parametrize("form", ["ascii", "svg", "perfetto", "html"])
def test_a_full_stdout_is_an_error(recorded, form):
    with FULL.open("wb") as full:
        done = zcb("timeline", recorded, "--format", form, stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"zcb: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["doctor"], ["doctor", "--json"], ["store", "fault", "--help"], ["store", "status", "--json"]],
)
def test_a_full_stdout_is_an_error_for_every_way_of_printing(embedded_store, arguments):
    with FULL.open("wb") as full:
        done = zcb(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"zcb: cannot write to stdout: No space left on device\n"


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["doctor", "--json"]])
def test_a_reader_that_has_left_is_not_the_answer_no(arguments):
    read, written = os.pipe()
    os.close(read)
    done = zcb(*arguments, stdout=written)
    os.close(written)
    assert (done.returncode, done.stderr) == (141, b"")  # what a shell says of a program that SIGPIPE ended


@pytest.mark.parametrize("form", ["ascii", "svg", "perfetto", "html"])
def test_a_picture_is_the_same_in_every_locale(recorded, form):
    pictures = []
    for locale in ({}, ASCII):
        done = zcb("timeline", recorded, "--format", form, stdout=subprocess.PIPE, env={**os.environ, **locale})
        assert done.returncode == 0, done.stderr
        pictures.append(done.stdout)
    assert pictures[0] == pictures[1]
    assert pictures[0]


def test_a_table_is_spelt_where_the_terminal_lacks_its_characters():
    code = "from harness.cli import output\noutput.take_over()\nfrom rich.console import Console\n"
    code += "Console().print('10 \\u2192 2 \\u00b1 1 \\u2026 \\u00fc', soft_wrap=True)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, **ASCII})
    assert done.stdout == b"10 -> 2 +- 1 ... ?\n"


def test_commands_with_tables_work_in_an_ascii_locale():
    for arguments in (["doctor"], ["--help"], ["doctor", "--help"]):
        done = zcb(*arguments, stdout=subprocess.PIPE, env={**os.environ, **ASCII}, cwd=ROOT)
        assert done.returncode in (0, 1), done.stderr
        assert done.stderr == b""


KEEPS = """
import click, sys
from harness.cli import group
from harness.paths import state_dir, write_atomically
group.zcb.add_command(click.Command("keep", callback=lambda: write_atomically(state_dir() / "kept", b"")))
sys.argv[1:] = ["keep"]
from harness.cli import command; command()
"""


def test_a_state_directory_that_cannot_be_written_is_said_in_a_line():
    environment = {**os.environ, "ZCB_STATE_DIR": "/sys/zcb"}  # where not even root may make a folder
    done = subprocess.run([sys.executable, "-c", KEEPS], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert done.stderr.startswith("zcb: cannot use /sys/zcb")
    assert done.stderr.endswith("; ZCB_STATE_DIR names another folder for what runs keep\n")
    assert done.stderr.count("\n") == 1

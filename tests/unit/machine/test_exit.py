"""How processes end: with the exit code and all output, and without the interpreter's shutdown."""

import os
import subprocess
import sys

import pytest

MAIN = """
import sys, threading
from harness.machine.exit import run_then_exit

def main():
    print("said", end="")
    {}

run_then_exit(main)
"""


def ended(body):
    done = subprocess.run([sys.executable, "-c", MAIN.format(body)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("body", "code"), [("pass", 0), ("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("sys.exit(0)", 0)]
)
def test_the_exit_code_and_what_was_printed_arrive(body, code):
    assert ended(body)[:2] == (code, "said")


def test_a_message_instead_of_a_code_is_shown():
    assert ended("sys.exit('no')") == (1, "said", "no\n")


def test_an_exception_shows_its_traceback():
    code, said, complained = ended("raise KeyError('lost')")
    assert (code, said) == (1, "said")
    assert complained.splitlines()[-1] == "KeyError: 'lost'"


def test_threads_are_not_waited_for():
    assert ended("threading.Thread(target=threading.Event().wait).start()")[0] == 0


def test_a_reader_of_the_output_that_left_is_no_error():
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", MAIN.format("pass")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered)
    process.stdout.close()
    assert process.communicate()[1] == b""
    assert process.returncode == 0

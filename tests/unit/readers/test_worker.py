"""What a worker says of a failure: wrong data as such, and a library's error with its place in the library."""

import importlib
import sys
import textwrap
from types import SimpleNamespace

import pytest

from harness.errors import MeasurementError, WrongDataError
from harness.measure.process import failure
from harness.readers.worker import Worker

LIBRARY = """
def read(how):
    if how == "wrong":
        from harness.errors import WrongDataError
        raise WrongDataError("chunk (0, 0) is wrong")
    return inner(how)

def inner(how):
    import json
    if how == "below":
        json.loads("{")
    raise how
"""


@pytest.fixture
def answer(tmp_path, monkeypatch):
    """Let a reader of a library called `underlib` fail, and return what its worker says."""
    (tmp_path / "underlib").mkdir()
    (tmp_path / "underlib" / "core.py").write_text(textwrap.dedent(LIBRARY))
    (tmp_path / "underlib" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda how, packages=("underlib", "json"): failing(how, packages).answer(b'{"op": "sample", "discard": true}')
    for name in [name for name in sys.modules if name.startswith("underlib")]:
        del sys.modules[name]


def failing(how, packages):
    class Failing:
        def use(self, variant):
            pass

        def read(self):
            importlib.import_module("underlib.core").read(how)

    worker = Worker(Failing)
    worker._reader, worker._workload, worker.packages = Failing(), SimpleNamespace(stream=None), packages
    return worker


def test_a_librarys_error_has_the_innermost_line_inside_it(answer):
    assert answer(TypeError("no"))["error"] == "TypeError: no (underlib/core.py:12)"
    assert answer("below")["error"].endswith("(underlib/core.py:11)")  # not json's, which it calls
    group = ExceptionGroup("several", [ValueError("first"), KeyError("second")])
    assert answer(group)["error"] == "ValueError: first"  # it was never raised by itself


def test_an_error_from_elsewhere_has_no_place(answer):
    assert answer(TypeError("no"), packages=("other",))["error"] == "TypeError: no"


def test_wrong_data_are_said_first_and_known_again(answer):
    said = answer("wrong")["error"]
    assert said == "WRONG DATA: chunk (0, 0) is wrong"
    assert isinstance(failure(said), WrongDataError)


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("chunk [0, 0] of demo/small is wrong: its decoded bytes do not match", "WRONG DATA: chunk [0, 0] of"),
        ("read 3 is wrong: its bytes do not match the truth", "WRONG DATA: read 3"),
        ("ValueError: chunk 3 is wrong: x", "ValueError"),
    ],
)
def test_a_worker_in_another_language_says_wrong_data_in_its_own_words(reason, shown):
    found = failure(reason)
    assert str(found).startswith(shown)
    assert isinstance(found, MeasurementError)

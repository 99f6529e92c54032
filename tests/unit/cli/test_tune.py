"""What the table of a search says of its trials."""

import pytest

from harness.cli.tune import _settings
from harness.readers.tunings import Trial


@pytest.mark.parametrize(
    ("settings", "against", "candidate", "beside"),
    [
        ({"a": 1}, {}, "a=1", "as documented"),
        ({"a": 1, "b": 2}, {"a": 1}, "b=2", "a=1"),
        ({"a": 1}, {"a": 1, "b": 2}, "without b", "a=1"),
        ({"a": 1}, {"a": 3}, "a=1, not a=3", "as documented"),
        ({"a": 1, "b": 2}, {"a": 3, "b": 2}, "a=1, not a=3", "b=2"),
    ],
)
def test_a_trial_names_what_it_was_held_against(settings, against, candidate, beside):
    trial = Trial(settings=settings, against=against, outcome="better")
    assert _settings(trial) == (candidate, beside)

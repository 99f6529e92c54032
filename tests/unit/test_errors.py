"""Errors that name what there is."""

import pytest

from harness.errors import BadUseError, unknown

READERS = ("zarr-python+obstore", "tensorstore", "zarrs")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorstor", "did you mean 'tensorstore'? choose from zarr-python+obstore, tensorstore, zarrs"),
        ("", "unknown reader '': choose from"),
        ("quite something else", "unknown reader 'quite something else': choose from"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest_one(name, said):
    assert said in str(unknown("reader", name, READERS))


def test_an_absurdly_long_name_is_cut():
    assert len(str(unknown("reader", "x" * 10_000, READERS))) < 200


def test_what_an_error_quotes_ends_no_line():
    assert str(BadUseError("unknown field `\x1e`,\n  and `\u2028`")) == "unknown field ` `, and ` `"

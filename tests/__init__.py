"""Tests; a package so that the rules for `tests.*` in pyproject.toml apply to them."""

import pytest

pytest.register_assert_rewrite("tests.support")  # an assertion there says, too, what it saw

"""Tests; a package so that the rules for `tests.*` in pyproject.toml apply to them."""

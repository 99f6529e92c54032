"""Verdicts: two versions of one thing, measured in alternating pairs, and what may be said of them."""

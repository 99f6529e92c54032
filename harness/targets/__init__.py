"""Targets: the places that are read from, and how each library is told where they are."""

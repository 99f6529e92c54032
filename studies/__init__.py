"""Studies: what stands behind a statement in docs/ and no user runs."""

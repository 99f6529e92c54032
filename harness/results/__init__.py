"""Results: what was measured, and the figures that come of it."""

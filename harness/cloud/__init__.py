"""Measuring on a cloud's VM: what it is, whether it suits the target, and what it costs."""

"""Feeding a training loop: arms that make batches, the loop that consumes them, and what was counted around it."""

"""What is missing on this machine or at a target, for what, and what cures it."""

"""Workloads: patterns made concrete, which every reader executes alike."""

"""Timelines of zarr-python, by its public extension points only: see `record`."""

from harness.timeline.zarr_python.recorder import Recorder, record

__all__ = ["Recorder", "record"]

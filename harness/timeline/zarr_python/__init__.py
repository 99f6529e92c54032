"""Timelines of zarr-python, by its public extension points only: see `record`."""

from harness.timeline.zarr_python.http import http_trace, traced_session
from harness.timeline.zarr_python.recorder import Recorder, record

__all__ = ["Recorder", "http_trace", "record", "traced_session"]

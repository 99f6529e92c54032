"""A timeline drawn: in a terminal, as SVG, for Perfetto, and as a page of its own."""

from harness.timeline.pictures.ascii import ascii_picture
from harness.timeline.pictures.page import html_page
from harness.timeline.pictures.perfetto import perfetto_trace
from harness.timeline.pictures.svg import svg_picture

__all__ = ["ascii_picture", "html_page", "perfetto_trace", "svg_picture"]

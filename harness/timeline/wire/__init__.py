"""Timelines from the wire: HTTP requests as the kernel saw their packets, for any reader on plain HTTP.

``with capture(target) as captured: ...`` records; `Captured.merge` puts the wire's times beside a reader's own, and
`Captured.alone` makes the timeline of a reader that has no hooks.
"""

from harness.timeline.wire.alone import from_wire
from harness.timeline.wire.capturing import Captured, capture, why_not
from harness.timeline.wire.merging import lags, merge

__all__ = ["Captured", "capture", "from_wire", "lags", "merge", "why_not"]

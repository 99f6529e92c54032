"""Timelines from the wire: HTTP requests as the kernel saw their packets, for any reader.

What goes by TLS is opened by the keys that the embedded store keeps (`tls`).

``with capture(target) as captured: ...`` records; `merge` puts the wire's times beside a reader's own, and
`from_wire` makes the timeline of a reader that has no hooks.
"""

from harness.timeline.wire.captured import Captured
from harness.timeline.wire.capturing import capture, why_not
from harness.timeline.wire.merging import lags, merge
from harness.timeline.wire.without_hooks import from_wire

__all__ = ["Captured", "capture", "from_wire", "lags", "merge", "why_not"]

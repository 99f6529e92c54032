"""Analysis: which stages a chunk's time went into, the critical path, and the optimal schedule of the same requests."""

from harness.timeline.schedule.analysis import LIMIT_IS, OPTIMUM_IS, Analysis, analyse
from harness.timeline.schedule.critical import Step, critical_path
from harness.timeline.schedule.optimum import optimum
from harness.timeline.schedule.stages import ENDS, STAGES, Span, in_flight, spans

__all__ = [
    "ENDS",
    "LIMIT_IS",
    "OPTIMUM_IS",
    "STAGES",
    "Analysis",
    "Span",
    "Step",
    "analyse",
    "critical_path",
    "in_flight",
    "optimum",
    "spans",
]

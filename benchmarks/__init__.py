"""What is measured: one module per read pattern. How it is measured stands in harness/."""

import sys
from pathlib import Path

# asv puts only this package on the path of its benchmark processes.
_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.append(_ROOT)

# A killed asv leaves its fork server waiting for ever; this package is the first of ours that it imports.
if "asv_runner" in sys.modules:
    from harness.machine.lifeline import die_with_parent

    die_with_parent()

# A process of asv's that measures, unlike asv itself.
if "asv_runner.run" in sys.modules:
    from harness.machine import environment

    environment.seal_here()

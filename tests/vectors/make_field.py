"""Write field.json, a vector a line: ``python tests/vectors/make_field.py`` from the repository."""

import json
from pathlib import Path

from harness.datasets.manifest import DTYPES
from setup_data.field import Field

BOXES = (
    ((0,), (9,)),
    ((1000003,), (6,)),
    ((0, 0), (3, 5)),
    ((3, 7, 127), (2, 2, 6)),
    ((63, 511, 1021), (1, 2, 7)),
    ((2**40 + 1, 2**33, 2**35 + 3), (2, 1, 5)),
    ((1, 2, 3, 4, 5), (1, 2, 1, 2, 3)),
)
SEEDS = (0, 1, 20240607, 2**63, 2**64 - 1)


def main() -> None:
    """Write every box once for each seed and once for each dtype."""
    cases = [(seed, "uint16", box) for seed in SEEDS for box in BOXES]
    cases += [(SEEDS[2], dtype, box) for dtype in DTYPES if dtype != "uint16" for box in BOXES]
    lines = []
    for seed, dtype, (start, shape) in cases:
        values = Field(seed, dtype).box(start, shape)
        stored = values.astype(values.dtype.newbyteorder("<")).tobytes().hex()
        vector = {"seed": seed, "dtype": dtype, "start": start, "shape": shape, "hex": stored}
        lines.append(json.dumps(vector, separators=(",", ":")))
    Path(__file__).with_name("field.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()

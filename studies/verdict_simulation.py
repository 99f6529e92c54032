"""How often verdicts err and what they find where the noise is known: simulated blocks, judged by the product's rule.

``python -m studies.verdict_simulation --verdicts 5000`` prints a row for each kind of noise: how much processes differ
from each other, how much pairs scatter, how far the noise of neighbouring pairs goes together (a first-order
autoregression over the pairs of a verdict), and whether it is normal or heavy-tailed (Student's t of 3 degrees).
docs/verdicts.md holds what came out.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import betaincinv

from harness.verdict.statistics import LOOKS, PAIRS_PER_BLOCK, Answer, judge_blocks

PROCESS_SPREADS = (0.0, 0.01, 0.02, 0.03)
PAIR_SPREADS = (0.02, 0.08, 0.19)
CORRELATIONS = (0.0, 0.25, 0.5)
SHAPES = ("normal", "t3")
_BOUND = 0.95


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What scatters the log ratios of pairs; spreads are standard deviations."""

    process: float
    """Of what a block's two processes happen to be."""
    pair: float
    correlation: float = 0.0
    """Of neighbouring pairs."""
    shape: str = "normal"

    def blocks(self, rng: np.random.Generator) -> list[list[float]]:
        """Draw as many blocks as a verdict can take, of equal sides."""
        count = LOOKS[-1]
        errors = self._shaped(rng, count * PAIRS_PER_BLOCK) * math.sqrt(1 - self.correlation**2)
        errors[0] /= math.sqrt(1 - self.correlation**2)
        for number in range(1, len(errors)):
            errors[number] += self.correlation * errors[number - 1]
        shifts = rng.normal(0, self.process, count) if self.process else np.zeros(count)
        blocks: list[list[float]] = (errors.reshape(count, -1) * self.pair + shifts[:, None]).tolist()
        return blocks

    def _shaped(self, rng: np.random.Generator, count: int) -> np.ndarray:
        if self.shape == "t3":
            return rng.standard_t(3, count) / math.sqrt(3)
        return rng.normal(size=count)


def simulated(noise: Noise, slowdown: float, comparisons: int, rng: np.random.Generator) -> tuple[Answer, int]:
    """Return what a verdict says of one comparison in which head is slower by `slowdown`, and after how many blocks."""
    shift = math.log1p(slowdown)
    blocks = [[value + shift for value in block] for block in noise.blocks(rng)]
    for look in LOOKS:
        answer = judge_blocks(blocks[:look], comparisons).answer
        if answer is not Answer.UNKNOWN:
            return answer, look
    return Answer.UNKNOWN, LOOKS[-1]


def upper_bound(count: int, total: int) -> float:
    """Return the largest rate that `count` events of `total` leave possible, at 95 % (Clopper and Pearson)."""
    return 1.0 if count == total else float(betaincinv(count + 1, total - count, _BOUND))


@click.command()
@click.option("--verdicts", type=click.IntRange(1), default=5000, show_default=True, help="Simulated, for each row.")
@click.option("--comparisons", type=click.IntRange(1), default=12, show_default=True, help="In each verdict.")
@click.option("--slowdown", type=float, default=0.05, show_default=True, help="Of head, in the columns of power.")
@click.option("--seed", type=int, default=0)
def main(verdicts: int, comparisons: int, slowdown: float, seed: int) -> None:
    """Simulate verdicts of equal sides, and of a slower head, under every kind of noise."""
    table = Table(
        "process", "pairs", "correlation", "shape", "false alarms", "at most", "no difference", "slower found"
    )
    table.add_column("blocks", justify="right")
    grid = itertools.product(PROCESS_SPREADS, PAIR_SPREADS, CORRELATIONS, SHAPES)
    for number, (process, pair, correlation, shape) in enumerate(grid):
        noise = Noise(process=process, pair=pair, correlation=correlation, shape=shape)
        rng = np.random.default_rng([seed, number])
        equal = [simulated(noise, 0.0, comparisons, rng) for _ in range(verdicts)]
        slower = [simulated(noise, slowdown, comparisons, rng) for _ in range(verdicts)]
        table.add_row(f"{process:.0%}", f"{pair:.0%}", f"{correlation:g}", shape, *_cells(equal, slower))
    Console(width=130).print(table)


def _cells(equal: Sequence[tuple[Answer, int]], slower: Sequence[tuple[Answer, int]]) -> list[str]:
    said, found = (Counter(answer for answer, _ in one) for one in (equal, slower))
    alarms = said[Answer.FASTER] + said[Answer.SLOWER]
    return [
        f"{alarms / len(equal):.3%}",
        f"{upper_bound(alarms, len(equal)):.3%}",
        f"{said[Answer.SAME] / len(equal):.1%}",
        f"{found[Answer.SLOWER] / len(slower):.2%}",
        f"{np.median([blocks for _, blocks in slower]):.0f}",
    ]


if __name__ == "__main__":
    main()

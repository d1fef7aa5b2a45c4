"""Nights of a gate, drawn from pairs that were really taken: pure functions, each with its source."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

BOUND = 0.95
"""Confidence of an upper bound."""


def block_length(n: int) -> int:
    """Length of the blocks that n observations are resampled in: n to the power of 1/3 (Hall, Horowitz, Jing 1995)."""
    return max(1, math.ceil(math.cbrt(n)))


def resampled(sessions: Sequence[NDArray[np.intp]], draw: np.random.Generator) -> Iterator[int]:
    """Positions of observations without end, drawn in blocks of neighbours, so that what they share stays with them.

    `sessions` are positions that were taken one after another; a block stays within one, and goes on at its start where
    it ends (Politis and Romano 1992, the circular bootstrap).  Raises ValueError where there are none.
    """
    lengths = np.array([len(session) for session in sessions], np.float64)
    if not lengths.sum():
        raise ValueError("needs observations to draw from")
    length = block_length(int(lengths.sum()))
    while True:
        session = sessions[int(draw.choice(len(sessions), p=lengths / lengths.sum()))]
        start = int(draw.integers(len(session)))
        yield from (int(session[(start + step) % len(session)]) for step in range(min(length, len(session))))


def upper_bound(events: float, trials: int) -> float:
    """What a probability stays below with the confidence `BOUND`, from independent trials (Clopper and Pearson 1934).

    A number of events that is not whole counts as the next one; 1 without trials.
    """
    if trials < 1:
        return 1.0
    counted = min(math.ceil(round(events, 9)), trials)
    from scipy.stats import binomtest  # takes half a second, and only a verdict on the gate asks

    return float(binomtest(counted, trials, alternative="less").proportion_ci(BOUND, method="exact").high)


def any_of(probability: float, cells: int) -> float:
    """Chance that at least one of several independent comparisons gives an alarm."""
    return float(-math.expm1(cells * math.log1p(-probability))) if probability < 1 else 1.0

"""Statistics of latency: pure functions over samples, each with the source of its rule.

Nothing here measures anything; everything can be recomputed from the stored samples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, t

EARLY_STOPPING_CONFIDENCE = 0.99


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval; `low` and `high` are None where one observation gives no spread."""

    value: float
    low: float | None
    high: float | None


@functools.cache
def minimum_samples(q: float) -> int:
    """Fewest samples from which the `q`-th percentile (50 < q < 100) may be reported: 64 for p90, 662 for p99.

    MLPerf Inference rules, "early stopping": the smallest n at which seeing at most one sample above a latency shows,
    with 99 % confidence, that at least q % of all latencies lie below it, that is P(Binomial(n, 1 - q) <= 1) <= 0.01.
    Raises ValueError for another q: a median needs no tail.
    """
    if not 50 < q < 100:
        raise ValueError(f"early stopping bounds percentiles between 50 and 100, not {q}")
    tail = 1 - q / 100

    def proves(n: int) -> bool:
        return bool(binom.cdf(1, n, tail) <= 1 - EARLY_STOPPING_CONFIDENCE)

    high = 2
    while not proves(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high


def percentile(samples: ArrayLike, q: float) -> float | None:
    """The `q`-th percentile (0 to 100) of latencies, or None where too few samples support it.

    Above the median the MLPerf minimum of `minimum_samples` applies; up to the median one sample is enough.  Linear
    interpolation between order statistics, as numpy's default (Hyndman and Fan 1996, type 7).
    Raises ValueError for samples that are not finite or a q outside 0..100.
    """
    values = np.asarray(samples, np.float64).ravel()
    if not 0 <= q <= 100:
        raise ValueError(f"q must lie in 0..100, not {q}")
    if not np.isfinite(values).all():
        raise ValueError("samples hold NaN or infinity")
    needed = minimum_samples(q) if 50 < q < 100 else 1
    return float(np.percentile(values, q)) if len(values) >= needed else None


def ratio_interval(
    reference_by_launch: Sequence[Sequence[ArrayLike]],
    cell_by_launch: Sequence[Sequence[ArrayLike]],
    confidence: float = 0.95,
) -> Interval:
    """How many times faster a cell is than the reference, from launches that both had; above 1 is faster.

    Item [i][j] of both arguments holds the latencies (ms, or any one unit) of round j of launch i.  Each round gives
    the ratio of its medians, median(reference) / median(cell): both saw the same neighbours, temperature and clock, so
    what disturbs the machine cancels.  The **median** of its rounds stands for a launch, the **geometric mean** of its
    launches for the cell: for ratios it is the mean that gives the inverse when cell and reference change places
    (Fleming and Wallace 1986).

    The interval is Student's t of the launches' log ratios: the launch, not the round or the sample, is what was
    repeated independently (Kalibera and Jones 2013, "Rigorous benchmarking in reasonable time").  One launch has no
    interval.

    Simulated with noise of 3 % a launch and 1.5 % a round, the nominal 95 % interval held the true ratio in 95 % of
    4000 runs at 3, 5, 8 and 20 launches with normal noise, and in 90 to 92 % with exponential noise.

    Raises ValueError on no launch, unequal numbers of launches or rounds, an empty round, or latencies that are not
    above zero.
    """
    shape, other = ([len(launch) for launch in side] for side in (reference_by_launch, cell_by_launch))
    if not shape or shape != other or 0 in shape:
        raise ValueError(f"need the same rounds of both, at least one a launch; got {shape} and {other}")
    logs = np.array(
        [
            np.median(np.log(_medians(reference, "reference")) - np.log(_medians(cell, "cell")))
            for reference, cell in zip(reference_by_launch, cell_by_launch, strict=True)
        ]
    )
    value = math.exp(logs.mean())
    if len(logs) < 2:
        return Interval(value, None, None)
    half = float(t.ppf((1 + confidence) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return Interval(value, value * math.exp(-half), value * math.exp(half))


def _medians(rounds: Sequence[ArrayLike], name: str) -> NDArray[np.float64]:
    medians = []
    for number, latencies in enumerate(rounds):
        values = np.asarray(latencies, np.float64)
        if not values.size or not np.isfinite(values).all() or values.min() <= 0:
            raise ValueError(f"round {number} of the {name} must hold finite latencies above zero, not {values}")
        medians.append(np.median(values))
    return np.array(medians)

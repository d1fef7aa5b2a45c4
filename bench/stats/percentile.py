"""Bounds of a latency's tail, by MLPerf Inference's early-stopping rule: pure functions over samples.

A percentile of the samples themselves lies below the true one about every second time; a bound does in at most one run
of a hundred.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr

EARLY_STOPPING_CONFIDENCE = 0.99


@functools.cache
def minimum_samples(q: float) -> int:
    """Fewest samples from which the `q`-th percentile (50 < q < 100) may be bounded: 64 for p90, 662 for p99.

    MLPerf Inference rules, "early stopping": the smallest n at which seeing at most one sample above a latency shows,
    with 99 % confidence, that at least q % of all latencies lie below it.
    Raises ValueError for another q: a median needs no tail.
    """
    if not 50 < q < 100:
        raise ValueError(f"early stopping bounds percentiles between 50 and 100, not {q}")
    high = 2
    while not _shows(1, high, q):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _shows(1, middle, q) else (middle, high)
    return high


def percentile_bound(samples: ArrayLike, q: float) -> float | None:
    """What the `q`-th percentile (50 < q < 100) of all latencies stays below, with 99 % confidence.

    MLPerf Inference rules, "early stopping", as LoadGen reports it for single-stream latencies: the t-th largest of n
    samples, with the largest t for which seeing at most t samples above a latency still shows that q % of all lie
    below it.  As if samples were independent: those of one launch resemble each other.
    None under `minimum_samples`, where not even t = 1 shows it.
    Raises ValueError for samples that are not finite or another q.
    """
    values = np.sort(np.asarray(samples, np.float64).ravel())
    if not np.isfinite(values).all():
        raise ValueError("samples hold NaN or infinity")
    n = len(values)
    if n < minimum_samples(q):
        return None
    shown = bdtr(np.arange(n), n, 1 - q / 100) <= 1 - EARLY_STOPPING_CONFIDENCE
    return float(values[n - (np.count_nonzero(shown) - 1)])


def _shows(above: int, n: int, q: float) -> bool:
    """Whether P(Binomial(n, 1 - q) <= above) is at most 1 %."""
    return bool(bdtr(above, n, 1 - q / 100) <= 1 - EARLY_STOPPING_CONFIDENCE)

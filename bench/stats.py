"""Statistics of latency: pure functions over samples, each with the source of its rule.

Nothing here measures anything; everything can be recomputed from the stored samples.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, bootstrap

EARLY_STOPPING_CONFIDENCE = 0.99
RESAMPLES = 9999


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
    reference_by_round: Sequence[ArrayLike],
    cell_by_round: Sequence[ArrayLike],
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """How many times faster a cell is than the reference, from rounds that both ran in; above 1 is faster.

    Item i of both arguments holds the latencies (ms, or any one unit) of round i.  Each round gives the ratio of its
    medians, median(reference) / median(cell): both saw the same neighbours, temperature and clock, so what disturbs the
    machine cancels.  The value is the **geometric mean** over rounds: for ratios it is the mean that gives the inverse
    when cell and reference change places (Fleming and Wallace 1986), and being smooth it can be bootstrapped from a
    handful of rounds, where a median of rounds takes only a few distinct values.

    The interval resamples rounds, not samples, as samples within a round are not independent: bias-corrected and
    accelerated bootstrap (Efron 1987) of the mean log ratio, the percentile interval where that is undefined, and the
    value itself where all rounds agree.  One round has no interval.

    With few rounds a bootstrap interval is too narrow.  Simulated with normal noise of 3 % a round, the nominal 95 %
    interval held the true ratio in 74 % of 1500 runs at 3 rounds, 83 % at 5, 90 % at 8 and 12, 91 % at 20; with
    exponential noise in 67, 77, 85, 88 and 92 %.

    Raises ValueError on no rounds, unequal numbers of rounds, an empty round, or latencies that are not above zero.
    """
    if not reference_by_round or len(reference_by_round) != len(cell_by_round):
        raise ValueError(
            f"need the same rounds of both, at least one; got {len(reference_by_round)} of the reference and "
            f"{len(cell_by_round)} of the cell"
        )
    logs = np.log(_medians(reference_by_round, "reference")) - np.log(_medians(cell_by_round, "cell"))
    value = math.exp(logs.mean())
    if len(logs) < 2:
        return Interval(value, None, None)
    if np.ptp(logs) <= 1e-12:
        return Interval(value, value, value)
    low, high = _bootstrap_mean(logs, confidence, seed, "BCa")
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = _bootstrap_mean(logs, confidence, seed, "percentile")
    return Interval(value, math.exp(low), math.exp(high))


def relative_half_width(interval: Interval) -> float:
    """Half the width of an interval over its value: 0.02 reads "within 2 %"; infinite where there is no interval."""
    if interval.low is None or interval.high is None:
        return math.inf
    return (interval.high - interval.low) / 2 / abs(interval.value)


def _medians(rounds: Sequence[ArrayLike], name: str) -> NDArray[np.float64]:
    medians = []
    for number, latencies in enumerate(rounds):
        values = np.asarray(latencies, np.float64)
        if not values.size or not np.isfinite(values).all() or values.min() <= 0:
            raise ValueError(f"round {number} of the {name} must hold finite latencies above zero, not {values}")
        medians.append(np.median(values))
    return np.array(medians)


def _bootstrap_mean(
    values: NDArray[np.float64], confidence: float, seed: int, method: Literal["BCa", "percentile"]
) -> tuple[float, float]:
    with warnings.catch_warnings():
        # An undefined BCa interval is warned of and comes back as NaN, which the caller looks for.
        warnings.simplefilter("ignore")
        result = bootstrap(
            (values,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=confidence,
            method=method,
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)

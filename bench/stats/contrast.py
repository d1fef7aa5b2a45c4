"""Cell against cell: the ratio of their times, from turns that both took in the same rounds.

Nothing stands between the two: a third cell's noise, which a quotient of two ratios to it would count twice, is not in
it.  Pure functions, each with its source.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from bench.stats.ratio import Interval
from bench.stats.turns import Turn

LAUNCHES_MIN = 3
"""Fewer repeats than these give no interval."""
PAID_MOST = 0.5
"""Autocorrelation that is paid for at most: a third of the repeats then counts."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of repeats with what its error rests on.

    `error` is the standard error, `freedom` its degrees of freedom, `autocorrelation` that of neighbouring repeats
    (lag 1), which both already pay for where it is positive.
    """

    value: float
    error: float
    freedom: float
    repeats: int
    autocorrelation: float

    @property
    def deviation(self) -> float:
        """Standard deviation of a repeat."""
        return self.error * math.sqrt(self.freedom + 1)  # `mean` lets as many repeats count

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Two-sided interval of the mean."""
        half = float(t.ppf((1 + confidence) / 2, self.freedom)) * self.error
        return self.value - half, self.value + half

    def ratio(self, confidence: float = 0.95) -> Interval:
        """The mean of logs as a ratio with its two-sided interval; without ends from a single repeat."""
        if self.repeats < 2:
            return Interval(math.exp(self.value), None, None)
        low, high = self.bounds(confidence)
        return Interval(math.exp(self.value), math.exp(low), math.exp(high))

    def lower(self, alpha: float) -> float:
        """What the mean exceeds, but for a chance of `alpha`."""
        return self.value - float(t.ppf(1 - alpha, self.freedom)) * self.error

    def upper(self, alpha: float) -> float:
        """What the mean stays below, but for a chance of `alpha`."""
        return self.value + float(t.ppf(1 - alpha, self.freedom)) * self.error


def mean(values: ArrayLike) -> Mean:
    """Mean of repeats in the order in which they were taken; NaN for the error of a single one.

    Neighbours that resemble each other are worth less than as many independent repeats: their number is reduced to
    n (1 - r) / (1 + r) for a lag-1 autocorrelation r > 0 (Bayley and Hammersley 1946, for a first-order process), with
    r corrected for its small-sample bias of about -(1 + 4 r) / n (Marriott and Pope 1954) and counted up to
    `PAID_MOST`: a few values cannot show more.
    Raises ValueError without values.
    """
    x = np.asarray(values, np.float64).ravel()
    n = len(x)
    if not n or not np.isfinite(x).all():
        raise ValueError(f"needs finite values, not {x}")
    if n < 2:
        return Mean(float(x[0]), math.nan, math.nan, n, 0.0)
    r = autocorrelation(x)
    paid = min(max(r, 0.0), PAID_MOST)
    effective = max(n * (1 - paid) / (1 + paid), 2.0)
    deviation = float(x.std(ddof=1))
    return Mean(float(x.mean()), deviation / math.sqrt(effective), effective - 1, n, r)


def autocorrelation(x: NDArray[np.float64]) -> float:
    """Lag-1 autocorrelation of repeats, corrected for its bias; 0 for fewer than ten.

    Of few values the estimate is mostly noise: one within its own standard error, 1 / sqrt(n), is taken for that.
    """
    n = len(x)
    centred = x - x.mean()
    power = float(centred @ centred)
    if n < 10 or power == 0:
        return 0.0
    raw = float(centred[1:] @ centred[:-1]) / power
    corrected = (raw + 1 / n) / (1 - 4 / n)
    return float(np.clip(corrected, -1, 1)) if abs(corrected) > 1 / math.sqrt(n) else 0.0


def by_launch(one: Sequence[Turn], other: Sequence[Turn]) -> NDArray[np.float64]:
    """Log ratio of the times of `one` to those of `other`, a value per launch in order.

    Turns of the same window and round are set against each other by their medians; the median of its rounds stands for
    a launch.  Empty where no round was shared.
    """
    theirs = {(turn.window, turn.round): float(np.median(turn.samples_ms)) for turn in other}
    launches: dict[tuple[int, int], list[float]] = {}
    for turn in one:
        key = turn.window, turn.round
        if key in theirs:
            ratio = math.log(float(np.median(turn.samples_ms)) / theirs[key])
            launches.setdefault((turn.window, turn.launch), []).append(ratio)
    return np.array([float(np.median(launches[key])) for key in sorted(launches)])


def contrast(one: Sequence[Turn], other: Sequence[Turn], confidence: float = 0.95) -> Interval | None:
    """Time of `one` over that of `other`, with its interval over launches; above 1, `one` is slower.

    None where no round was shared; without ends where fewer than `LAUNCHES_MIN` launches were.
    """
    logs = by_launch(one, other)
    if not logs.size:
        return None
    found = mean(logs)
    if len(logs) < LAUNCHES_MIN:
        return Interval(math.exp(found.value), None, None)
    return found.ratio(confidence)

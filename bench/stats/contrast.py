"""Cell against cell: the ratio of their times, from turns that both took in the same rounds.

Nothing stands between the two: a third cell's noise, which a quotient of two ratios to it would count twice, is not in
it.  This is the one place where times of two cells are compared.  Pure functions, each with its source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from statistics import fmean, median
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from bench.stats.interval import Interval
from bench.stats.turns import Turn, contaminated

LAUNCHES_MIN = 3
"""Fewer repeats than these give no interval."""
OTHERS_MIN = 3
"""Fewer cells than these are no yardstick: their own noise would be most of it."""
PAID_MOST = 0.5
"""Autocorrelation that is paid for at most: a third of the repeats then counts."""

Round = tuple[int, int, int]
"""Window, launch and number of a round."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A turn as it is compared: its position in the round, the log of its median, and whether nothing disturbed it."""

    order: int
    log_ms: float
    clean: bool = True


@dataclass(frozen=True)
class Readings:
    """What a cell's turns amount to, by round; who takes several turns in a round has as many readings there."""

    rounds: Mapping[Round, tuple[Reading, ...]]

    @cached_property
    def clean(self) -> Mapping[Round, tuple[Reading, ...]]:
        """The same without disturbed turns, and without the rounds that hold no other."""
        kept = {key: tuple(one for one in readings if one.clean) for key, readings in self.rounds.items()}
        return {key: readings for key, readings in kept.items() if readings}

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> Readings:
        """Readings of a cell's turns of one window."""
        rounds: dict[Round, list[Reading]] = {}
        for turn, bad in zip(turns, contaminated(turns), strict=True):
            reading = Reading(turn.order, math.log(float(np.median(turn.samples_ms))), clean=not bad)
            rounds.setdefault((turn.window, turn.launch, turn.round), []).append(reading)
        return cls({key: tuple(readings) for key, readings in rounds.items()})


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

    def __neg__(self) -> Mean:
        """The mean of the repeats with their signs turned."""
        return replace(self, value=-self.value)

    @property
    def deviation(self) -> float:
        """Standard deviation of a repeat."""
        return self.error * math.sqrt(self.freedom + 1)  # `mean` lets as many repeats count

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Two-sided interval of the mean."""
        half = self.half(confidence)
        return self.value - half, self.value + half

    def ratio(self, confidence: float = 0.95) -> Interval:
        """The mean of logs as a ratio with its two-sided interval; without ends from a single repeat."""
        if self.repeats < 2:
            return Interval(math.exp(self.value), None, None)
        low, high = self.bounds(confidence)
        return Interval(math.exp(self.value), math.exp(low), math.exp(high))

    def half(self, confidence: float) -> float:
        """Half the width of that interval."""
        return quantile((1 + confidence) / 2, self.freedom) * self.error

    def lower(self, alpha: float) -> float:
        """What the mean exceeds, but for a chance of `alpha`."""
        return self.value - quantile(1 - alpha, self.freedom) * self.error

    def upper(self, alpha: float) -> float:
        """What the mean stays below, but for a chance of `alpha`."""
        return self.value + quantile(1 - alpha, self.freedom) * self.error

    @property
    def p_value(self) -> float:
        """Chance of a mean so far from zero, on either side, if zero were the truth; 1 where there is no error."""
        if math.isnan(self.error):
            return 1.0
        if self.error == 0:
            return float(self.value == 0)
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error))


def quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t: what `scipy.stats.t.ppf` gives, in a hundredth of its time.

    The gate's self-check decides some hundred thousand times.
    """
    return float(stdtrit(freedom, probability))


def mean(values: ArrayLike, noise: float = 1.0) -> Mean:
    """Mean of repeats in the order in which they were taken; NaN for the error of a single one.

    Neighbours that resemble each other are worth less than as many independent repeats: their number is reduced to
    n (1 - r) / (1 + r) for a lag-1 autocorrelation r > 0 (Bayley and Hammersley 1946, for a first-order process), with
    r corrected for its small-sample bias of about -(1 + 4 r) / n (Marriott and Pope 1954) and counted up to
    `PAID_MOST`: a few values cannot show more.  `noise` is how many of its standard errors are taken for none.
    Raises ValueError without values.
    """
    x = np.asarray(values, np.float64).ravel()
    n = len(x)
    if not n or not np.isfinite(x).all():
        raise ValueError(f"needs finite values, not {x}")
    if n < 2:
        return Mean(float(x[0]), math.nan, math.nan, n, 0.0)
    r = autocorrelation(x, noise)
    paid = min(max(r, 0.0), PAID_MOST)
    effective = max(n * (1 - paid) / (1 + paid), 2.0)
    deviation = float(x.std(ddof=1))
    return Mean(float(x.mean()), deviation / math.sqrt(effective), effective - 1, n, r)


def autocorrelation(x: NDArray[np.float64], noise: float = 1.0) -> float:
    """Lag-1 autocorrelation of repeats, corrected for its bias; 0 for fewer than ten.

    Of few values the estimate is mostly noise: one within `noise` standard errors of 1 / sqrt(n) is taken for that.
    """
    n = len(x)
    centred = x - x.mean()
    power = float(centred @ centred)
    if n < 10 or power == 0:
        return 0.0
    raw = float(centred[1:] @ centred[:-1]) / power
    corrected = (raw + 1 / n) / (1 - 4 / n)
    return float(np.clip(corrected, -1, 1)) if abs(corrected) > noise / math.sqrt(n) else 0.0


def shared(one: Readings, other: Readings) -> tuple[Round, ...]:
    """Rounds of which the two may be compared, in order: both had a turn that nothing disturbed.

    Where that leaves fewer than `LAUNCHES_MIN` launches, disturbed turns count too.
    """
    return tuple(sorted(_sides(one, other).rounds))


def by_launch(one: Readings, other: Readings) -> dict[tuple[int, int], float]:
    """Log ratio of the times of `one` to those of `other` by window and launch, in order; the median of its rounds.

    Within a round the medians of turns are set against each other.  Who took several turns there is compared by the
    one nearest in order, or by the mean of two that are as near: what the machine does in between is then least.
    Empty where no round was shared.
    """
    sides = _sides(one, other)
    launches: dict[tuple[int, int], list[float]] = {}
    for key in sorted(sides.rounds):
        launches.setdefault(key[:2], []).append(_log_ratio(sides.one[key], sides.other[key]))
    return {launch: median(ratios) for launch, ratios in launches.items()}


def against(one: Readings, other: Readings) -> Mean | None:
    """Mean over launches of the log ratio of the times of `one` to those of `other`; None where no round was shared.

    Without an error where disturbed turns had to count: what disturbed them is not in it.
    """
    logs = by_launch(one, other)
    if not logs:
        return None
    found = mean(list(logs.values()))
    return replace(found, error=math.nan, freedom=math.nan) if _sides(one, other).disturbed else found


def against_all(one: Readings, others: Iterable[Readings]) -> Mean | None:
    """The same against the geometric mean of several cells, a yardstick that carries little error of its own.

    Those count that shared the same launches, as many as any shared, so that every launch has the same yardstick.
    None where they are fewer than `OTHERS_MIN`.  An interval of this is the cell's own (the idea of Easton, Peto and
    Babiker 1991, and of the quasi-variances of Firth and de Menezes 2004): two cells can be held against each other by
    theirs without the reference's error in both.
    """
    found = [by_launch(one, other) for other in others if not _sides(one, other).disturbed]
    launches: AbstractSet[tuple[int, int]] = max((logs.keys() for logs in found), key=len, default=set())
    whole = [logs for logs in found if logs.keys() == launches]
    if not launches or len(whole) < OTHERS_MIN:
        return None
    return mean([fmean(logs[launch] for logs in whole) for launch in sorted(launches)])


def contrast(one: Readings, other: Readings, confidence: float = 0.95) -> Interval | None:
    """Time of `one` over that of `other`, with its interval over launches; above 1, `one` is slower.

    None where no round was shared; without ends where fewer than `LAUNCHES_MIN` launches were, or were undisturbed.
    """
    found = against(one, other)
    return None if found is None else ratio(found, confidence)


def ratio(found: Mean, confidence: float = 0.95) -> Interval:
    """A mean of log ratios as a ratio; without ends where it has no error, or fewer than `LAUNCHES_MIN` launches."""
    if found.repeats < LAUNCHES_MIN or math.isnan(found.error):
        return Interval(math.exp(found.value), None, None)
    return found.ratio(confidence)


@dataclass(frozen=True)
class Contrasts:
    """Any two of some cells against each other, all at once.

    `means` holds the log ratio of the times of each pair that shared a round, in the order of `cells`; `sure` holds
    (faster, slower) of the pairs that are told apart.
    """

    cells: tuple[str, ...]
    means: Mapping[tuple[str, str], Mean]
    sure: frozenset[tuple[str, str]]

    def between(self, one: str, other: str) -> Mean | None:
        """Log ratio of the times of `one` to those of `other`; None where they shared no round."""
        if (one, other) in self.means:
            return self.means[one, other]
        found = self.means.get((other, one))
        return None if found is None else -found


def contrasts(cells: Mapping[str, Readings], alpha: float = 0.05) -> Contrasts:
    """Compare every two of `cells`.

    Which of them are told apart is decided over all pairs together: the chance that any one order is wrong is at most
    `alpha` (Holm 1979).  Holm's rule holds however the pairs depend on each other; a rule that estimates their
    correlation, as those after Tukey do, cannot be had from fewer launches than cells.
    """
    means = {
        (one, other): found
        for one, other in combinations(cells, 2)
        if (found := against(cells[one], cells[other])) is not None
    }
    p_values = [found.p_value if found.repeats >= LAUNCHES_MIN else 1.0 for found in means.values()]
    told = zip(means.items(), holm(p_values), strict=True)
    sure = (pair if found.value < 0 else pair[::-1] for (pair, found), p in told if p <= alpha)
    return Contrasts(tuple(cells), means, frozenset(sure))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values of several hypotheses, adjusted so that those up to `alpha` may be rejected together at level `alpha`.

    Holm 1979, "A simple sequentially rejective multiple test procedure": the i-th smallest of n is multiplied by
    n - i + 1 and is at least as large as those before it.
    """
    adjusted = [1.0] * len(p_values)
    least = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = least
    return adjusted


class _Sides(NamedTuple):
    """Rounds of which two cells may be compared, the readings of both to be used, and whether disturbed ones are."""

    rounds: AbstractSet[Round]
    one: Mapping[Round, tuple[Reading, ...]]
    other: Mapping[Round, tuple[Reading, ...]]
    disturbed: bool


def _sides(one: Readings, other: Readings) -> _Sides:
    clean, every = one.clean.keys() & other.clean.keys(), one.rounds.keys() & other.rounds.keys()
    if clean == every or len({key[:2] for key in clean}) >= LAUNCHES_MIN:
        return _Sides(clean, one.clean, other.clean, disturbed=False)
    return _Sides(every, one.rounds, other.rounds, disturbed=True)


def _log_ratio(mine: Sequence[Reading], theirs: Sequence[Reading]) -> float:
    """Of the two sides in one round; turning them round turns the sign."""
    if len(mine) > len(theirs):
        return -_log_ratio(theirs, mine)
    found = _to_nearest(mine, theirs)
    return found if len(mine) < len(theirs) or len(mine) == 1 else (found - _to_nearest(theirs, mine)) / 2


def _to_nearest(mine: Sequence[Reading], theirs: Sequence[Reading]) -> float:
    """Median over turns of one side of its log ratio to those of the other side that are nearest to it in order."""
    ratios = []
    for turn in mine:
        distance = min(abs(other.order - turn.order) for other in theirs)
        near = [other.log_ms for other in theirs if abs(other.order - turn.order) == distance]
        ratios.append(turn.log_ms - fmean(near))
    return median(ratios)

"""Has it become slower?  A decision with three answers, from log ratios of pairs; pure, and as short as it can be.

A margin stands between "different" and "worse": what the layout of another binary alone does is no regression.  Red is
said only where fresh pairs say so of what the first ones made a suspect: these choose, decide nothing, and so may be
quick to suspect (the level of the answer is that of the fresh pairs).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from bench.stats.contrast import Mean, mean, quantile

SCREEN_ALPHA, CONFIRM_ALPHA = 0.05, 0.005
"""Chance of a false alarm in the first look, and in the second, which takes fresh pairs."""
SUSPECT_ALPHA = 0.2
"""Chance that the first look suspects a cell that is just as slow as the margin allows; docs/method.md has what other
values find."""
POWER = 0.95
GROSS = 5.0
"""Standard deviations from the median of pairs from where one counts as no farther away; docs/method.md has others."""
STRAY = 0.15
"""Share of pairs that may lie so far out and be accidents."""
TELLING = 6
"""Fewer pairs than these do not say how far out is far: the median absolute deviation of three is their smaller gap."""
INDEPENDENT = 1.645
"""Standard errors that 95 of 100 autocorrelations of independent pairs stay below.

A sweep's launches pay from one on, since a machine's drift is in them; neighbours in a pair meet it alike."""
_MAD_OF_NORMAL = 0.6744897501960817
"""Median absolute deviation of normal noise, in standard deviations: the quantile of 3/4."""


class Change(StrEnum):
    """What pairs say of a candidate against its base."""

    REGRESSED = "regressed"
    OK = "ok"
    IMPROVED = "improved"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision and what it rests on.

    `found` is the mean log ratio, candidate over base; `margin` the relative slowdown that is allowed; `visible` the
    smallest relative slowdown that as many such pairs would have shown 95 times in 100; `suspect` whether fresh pairs
    are worth taking to see if it is slower.
    """

    change: Change
    found: Mean
    margin: float
    alpha: float
    visible: float
    suspect: bool = False


def of_pairs(logs: ArrayLike) -> Mean:
    """Mean of pairs, of which a few count as no farther from their median than `GROSS` standard deviations.

    Of some forty pairs one has a process that is slow for as long as it lives; the plain mean has no defence against
    it.  So such a pair is drawn in (winsorised: Tukey 1962), with the standard deviation that the median absolute
    deviation stands for in normal noise (Hampel 1974).  All count as they are where more than `STRAY` of them lie so
    far out, and more than one, which is then no accident but what is compared; where more than half agree; and of fewer
    than `TELLING`.
    Raises ValueError without pairs.
    """
    x = np.asarray(logs, np.float64).ravel()
    if len(x) < TELLING:
        return mean(x)
    centre = float(np.median(x))
    away = np.abs(x - centre)
    reach = GROSS * float(np.median(away)) / _MAD_OF_NORMAL
    stray = 0 < np.count_nonzero(away > reach) <= max(1, STRAY * len(x))
    return mean(np.clip(x, centre - reach, centre + reach) if stray and reach else x, INDEPENDENT)


def decide(logs: ArrayLike, margin: float, alpha: float = SCREEN_ALPHA) -> Decided:
    """Hold log ratios of pairs, candidate over base, against a margin (0.01 is one per cent).

    Regressed where the lower one-sided bound of their mean lies above log(1 + margin); ok where the upper one lies
    below it, and improved where it lies below -log(1 + margin) (Schuirmann 1987, for the bounds of equivalence).
    Otherwise, and from fewer than three pairs, undecided.  Raises ValueError for a negative margin.
    """
    if margin < 0:
        raise ValueError(f"a margin is at least 0, not {margin}")
    found, limit = of_pairs(logs), math.log1p(margin)
    change = Change.UNDECIDED
    if found.repeats > 2:
        if found.lower(alpha) > limit:
            change = Change.REGRESSED
        elif found.upper(alpha) < -limit:
            change = Change.IMPROVED
        elif found.upper(alpha) < limit:
            change = Change.OK
    suspect = found.repeats > 2 and found.lower(SUSPECT_ALPHA) > limit
    return Decided(change, found, margin, alpha, visible(found, margin, alpha), suspect)


def both(screened: Decided, confirmed: Decided | None, pooled: Decided | None = None) -> Change:
    """The answer of two looks at independent pairs, and of all of them `pooled`.

    Regressed where the first look suspected it and the second says so, improved where both say so.  What is not
    confirmed, or could not be, is undecided; ok where the first look says so, or after a second one all pairs together
    do: those of a suspect lie too high rather than too low.
    """
    if confirmed is None:
        return screened.change if screened.change is Change.OK else Change.UNDECIDED
    if screened.suspect and confirmed.change is Change.REGRESSED:
        return Change.REGRESSED
    if screened.change is confirmed.change is Change.IMPROVED:
        return Change.IMPROVED
    return Change.OK if pooled is not None and pooled.change is Change.OK else Change.UNDECIDED


def visible(found: Mean, margin: float, alpha: float, power: float = POWER) -> float:
    """Smallest relative slowdown that pairs with this error call regressed with that `power`; NaN from one pair."""
    if not found.repeats > 1 or math.isnan(found.error):
        return math.nan
    reach = (quantile(1 - alpha, found.freedom) + quantile(power, found.freedom)) * found.error
    return math.expm1(math.log1p(margin) + reach)


def foreseen(deviation: float, pairs: int, margin: float, alpha: float = SCREEN_ALPHA) -> float:
    """The slowdown that so many pairs of such a standard deviation, not taken yet, would be `visible` from."""
    return visible(Mean(0.0, deviation / math.sqrt(pairs), pairs - 1, pairs, 0.0), margin, alpha)


def pairs_needed(first: Mean, width: float, alpha: float = SCREEN_ALPHA, power: float = 0.5) -> int:
    """How many pairs show a change of `width` (relative) beyond the margin with that `power`, judged by a first few.

    With a power of one half that is a one-sided bound within `width` of the mean.  Stein 1945: the number is fixed by
    the first stage's variance, so that stopping does not depend on the mean, and the bound keeps its level.  At least
    the first stage's own number.  Raises ValueError for fewer than two pairs.
    """
    if not first.repeats > 1:
        raise ValueError("needs at least two pairs to judge by")
    sd = first.error * math.sqrt(first.repeats)
    reach = quantile(1 - alpha, first.repeats - 1) + quantile(power, first.repeats - 1)
    return max(first.repeats, math.ceil((reach * sd / math.log1p(width)) ** 2))


def p_value(found: Mean, margin: float) -> float:
    """Chance of such a mean, or a larger one, if the candidate were slower by no more than the margin."""
    limit = math.log1p(margin)
    if not found.repeats > 1 or not found.error > 0:
        return float(found.repeats < 2 or found.value <= limit)
    return float(stdtr(found.freedom, -(found.value - limit) / found.error))


def suspects(p_values: Sequence[float], rate: float = SCREEN_ALPHA) -> list[bool]:
    """Which of several changes stand, at a false discovery rate `rate` (Benjamini and Hochberg 1995)."""
    from scipy.stats import false_discovery_control  # takes half a second, and only a gate asks

    return [bool(q <= rate) for q in false_discovery_control(list(p_values))] if p_values else []

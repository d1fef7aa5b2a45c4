"""Where a figure that is taken night after night has moved to another level; pure functions, each with its source.

Candidates are those of the segmentation of least squares with a penalty per segment (Killick, Fearnhead, Eckley 2012;
the library `ruptures`).  What it finds depends on the penalty and says nothing of how sure it is, so each candidate is
then held against its two neighbouring levels by a test that pays for having looked at every night.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import ruptures
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr

from bench.stats.contrast import OTHERS_MIN, PAID_MOST, autocorrelation

LEVEL = 1e-5
"""Chance that a look at a series that has not moved finds a step: a machine has hundreds, and they are looked at
every night."""
SHORTEST = 2
"""Nights of a level at least: one that is out of line is no level yet."""
FEWEST = 8
"""Nights of a series at least: the noise of fewer is not known."""
_SHORT = 4
"""Under as many nights a level is taken to be where the one of them is that moved least."""
_PENALTY = 3.0
"""Of a segment, in squared standard deviations for each unit of log(nights): on the generous side, a test follows."""
_OF_THE_MARGIN = 1 / 6
"""Standard deviation that is assumed at least, in margins: of a figure that never varies every change is large."""


@dataclass(frozen=True, slots=True)
class Step:
    """A series moved: from which place on, its levels before and after, and the chance of such a step without one."""

    at: int
    before: float
    after: float
    p_value: float


def steps(values: ArrayLike, margin: float, level: float = LEVEL) -> tuple[Step, ...]:
    """Steps of at least `margin` in a series in the order in which it was taken, (n,); values in the margin's unit.

    None from fewer than `FEWEST` values.  Raises ValueError for values that are not finite, or no margin above 0.
    """
    x = np.asarray(values, np.float64).ravel()
    if not np.isfinite(x).all() or not margin > 0:
        raise ValueError(f"needs finite values and a margin above 0, not {margin}")
    if len(x) < FEWEST:
        return ()
    least = margin * _OF_THE_MARGIN
    places = _candidates(x, max(_noise(x), least))
    while places:
        found = [_step(x, *place, least) for place in _between(places, len(x))]
        worst = max(found, key=lambda step: step.p_value)
        if worst.p_value * len(x) <= level:  # every night was looked at
            return tuple(step for step in found if abs(step.after - step.before) >= margin)
        places.remove(worst.at)
    return ()


def yardsticks(logs: NDArray[np.float64], counted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How slow each night was for the others of each cell, as a log ratio to their usual times, (cells, nights).

    `logs` are log times, NaN where a cell was not timed; `counted` says which cells may be another's yardstick.  It is
    the median over the others of how far each is from its own median over the nights: one that moves, comes or goes
    leaves it where it is, as it would not a mean.  NaN where fewer than `OTHERS_MIN` others were timed.
    """
    usual = np.array([[np.median(row[np.isfinite(row)])] if np.isfinite(row).any() else [np.nan] for row in logs])
    away = np.where(counted[:, None], logs - usual, np.nan)
    found = np.full(logs.shape, np.nan)
    for cell in range(len(logs)):
        others = np.delete(away, cell, axis=0)
        enough = np.isfinite(others).sum(axis=0) >= OTHERS_MIN
        if enough.any():
            found[cell, enough] = np.nanmedian(others[:, enough], axis=0)
    return found


def _noise(x: NDArray[np.float64]) -> float:
    """Standard deviation of a night, from the median difference of neighbours: steps are too few to count in it."""
    return float(np.median(np.abs(np.diff(x)))) / (0.6745 * math.sqrt(2))


def _candidates(x: NDArray[np.float64], noise: float) -> list[int]:
    """Where the segments of the penalised segmentation begin, but for the first."""
    scaled = (x - np.median(x)) / noise
    search = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(scaled)
    return [int(end) for end in search.predict(pen=_PENALTY * math.log(len(x)))[:-1]]


def _between(places: Sequence[int], n: int) -> list[tuple[int, int, int]]:
    """Each place with the beginning of the level before it and the end of the one after it."""
    edges = [0, *places, n]
    return [(start, at, end) for (start, at), (_, end) in pairwise(pairwise(edges))]


def _step(x: NDArray[np.float64], start: int, at: int, end: int, least: float) -> Step:
    """Two levels held against each other by Student's t with a common standard deviation, at least `least`.

    Nights that resemble their neighbours count as fewer: see `bench.stats.contrast.mean`.
    """
    one, other = x[start:at], x[at:end]
    before, after = float(one.mean()), float(other.mean())
    rest = np.concatenate([one - before, other - after])
    paid = min(max(autocorrelation(rest), 0.0), PAID_MOST)
    many, few = (max(len(side) * (1 - paid) / (1 + paid), 1.0) for side in (one, other))
    freedom = max(many + few - 2, 1.0)
    deviation = max(math.sqrt(float(rest @ rest) / max(len(rest) - 2, 1)), least)
    apart = _apart(one, other)
    p_value = 2 * float(stdtr(freedom, -apart / (deviation * math.sqrt(1 / many + 1 / few))))
    return Step(at, before, after, min(p_value, 1.0))


def _apart(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far two levels are apart; 0 where that of a few nights is not on one side of the other with all of them."""
    sign = 1.0 if other.mean() > one.mean() else -1.0
    high = float(np.min(sign * other)) if len(other) < _SHORT else sign * float(other.mean())
    low = float(np.max(sign * one)) if len(one) < _SHORT else sign * float(one.mean())
    return max(high - low, 0.0)

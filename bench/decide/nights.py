"""Nights of the gate replayed on stored pairs, by the code that decides and the code that shares out the time.

A night is a contest of every cell of a sweep within some minutes.  Its pairs are drawn from those of the self-check,
each with the seconds that it really took; by a clock that adds these up, `bench.measure.contest` runs as it does beside
real guests.  So what is found here of its errors holds for the gate, and not for a model of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.decide import gate
from bench.decide.gate import CONTROL, Looks
from bench.grid.tolerances import TIMED
from bench.measure.contest import Contest, Contests
from bench.measure.pairs import LATENCY, Turns
from bench.stats import nights as statistics

Map = Callable[..., Iterator["Tally"]]
"""`map`, or that of an executor."""


@dataclass(frozen=True)
class Series:
    """Pairs of one cell in the order in which they were taken.

    `logs` holds the log ratios of each metric, (n,); `seconds` what each pair took, (n,); `sessions` the positions that
    belong to one session; `equal` whether the two sides are the same, so that either may be called the candidate.
    """

    logs: Mapping[str, NDArray[np.float64]]
    seconds: NDArray[np.float64]
    sessions: tuple[NDArray[np.intp], ...]
    equal: bool

    @classmethod
    def of(cls, pairs: pd.DataFrame, *, equal: bool) -> Series:
        """Rows of the self-check's pairs of two sides, in their order."""
        ordered = pairs.sort_values(["session", "number"], ignore_index=True)
        sessions = tuple(np.asarray(rows, np.intp) for rows in ordered.groupby("session").indices.values())
        logs = {metric: ordered[metric].to_numpy(np.float64) for metric in TIMED}
        return cls(logs, ordered["seconds"].to_numpy(np.float64), sessions, equal)

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.seconds)


@dataclass(frozen=True)
class Drawn:
    """A pair that was drawn: its log ratios by metric."""

    logs: Mapping[str, float]

    def log_ratio(self, metric: str = LATENCY) -> float:
        """As that of the pair it was drawn from."""
        return self.logs[metric]


@dataclass(frozen=True)
class Setting:
    """A night's cells, margins and time; `slowed` is the relative slowdown added to the pairs of some cells.

    `control` is drawn beside them, as a check takes pairs of the cell that starts quickest against itself.
    """

    cells: Mapping[str, Series]
    control: Series
    margins: Mapping[str, float]
    minutes: float
    slowed: Mapping[str, float]


@dataclass(frozen=True)
class Tally:
    """A night's end: which metrics of each cell are red, and how many pairs each cell took."""

    red: Mapping[str, tuple[str, ...]]
    pairs: Mapping[str, int]


class _Clock:
    """Time that passes only where a pair is taken."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def night(setting: Setting, seed: int) -> Tally:
    """One night; equal seeds give equal nights, and the same draws whatever is slowed.

    Raises ValueError for a cell without pairs.
    """
    clock = _Clock()
    every = {**setting.cells, CONTROL: setting.control}
    *contests, control = (
        _contest(name, series, setting, clock, np.random.default_rng([seed, place]))
        for place, (name, series) in enumerate(every.items())
    )
    Contests([*contests, control], 60 * setting.minutes, lambda *_place: None, clock).run()
    looks = [
        Looks(one.name, metric, None, None, one.screen(metric), one.confirmation(metric), one.pooled(metric))
        for one in contests
        if one.screened
        for metric in one.margins
    ]
    lines = gate.regressed(gate.timed(looks, steady=gate.steady(control)))
    red = {one.name: tuple(line.metric for line in lines if line.cell == one.name) for one in contests}
    return Tally(red, {one.name: len(one.screened) + len(one.confirming) for one in contests})


def nights(setting: Setting, number: int, spread: Map = map) -> list[Tally]:
    """Several nights, with seeds of their own."""
    return list(spread(night, repeat(setting, number), range(number)))


def _contest(name: str, series: Series, setting: Setting, clock: _Clock, draw: np.random.Generator) -> Contest:
    """A contest whose pairs are drawn.

    Of two equal sides either is the candidate, for a night: the rate of alarms is then not that of the one mean which
    the stored pairs happen to have.
    """
    sign = float(draw.choice((-1.0, 1.0))) if series.equal else 1.0
    added = {LATENCY: math.log1p(setting.slowed.get(name, 0.0))}
    positions = statistics.resampled(series.sessions, draw)

    def take() -> Turns:
        at = next(positions)
        clock.now += float(series.seconds[at])
        logs = {metric: sign * float(values[at]) + added.get(metric, 0.0) for metric, values in series.logs.items()}
        return cast("Turns", Drawn(logs))  # a contest asks a pair for nothing else

    return Contest(name, take, setting.margins)

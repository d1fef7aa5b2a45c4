"""Contests: each a cell's candidate against its base, several of them interleaved until time is up or all is decided.

The first pairs of each say how much its pairs vary; how many it takes after them is fixed by that and by the time there
is, never by their mean.  What is then suspected is confirmed by fresh pairs at a level of their own.  Pairs of all
contests are taken in turn, so that an hour's drift meets all of them and neighbours of one contest lie minutes apart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.measure.pairs import LATENCY, Conditions, Side, SideProblem, Turns
from bench.stats import change
from bench.stats.allocation import PAIRS_MIN, Noise, shares
from bench.stats.change import CONFIRM_ALPHA, POWER, SCREEN_ALPHA, Change, Decided

SEED = 20260201
SCREEN_SHARE = 0.5
"""Of the time, for the first look; the rest confirms what it suspects, and looks longer at what it left open."""
CONFIRM_MOST = 8
"""Pairs of a second look, as a multiple of those of the first."""


@dataclass(frozen=True)
class Setting:
    """What a contest's pairs are made of, for whoever looks at its two sides in another way."""

    sides: Mapping[str, Side]
    conditions: Conditions


@dataclass
class Contest:
    """A candidate against its base: how a pair of them is taken, what changes are allowed, and what was found.

    `margins` holds the relative slowdown (or growth) that is allowed, by metric; only metrics in it are decided.  How
    many pairs are taken follows from `metric`, which is also what is meant where none is named.
    `seconds` is what its pairs took so far; `problem` ended it.
    """

    name: str
    take: Callable[[], Turns]
    margins: Mapping[str, float]
    setting: Setting | None = None
    """None where pairs that were stored are taken again."""
    screened: list[Turns] = field(default_factory=list)
    confirming: list[Turns] = field(default_factory=list)
    seconds: float = 0.0
    problem: SideProblem | None = None
    metric: str = LATENCY

    def screen(self, metric: str | None = None) -> Decided:
        """The first look at a metric."""
        return self._decide(self.screened, metric, SCREEN_ALPHA)

    def confirmation(self, metric: str | None = None) -> Decided | None:
        """The second look, at fresh pairs; None where there was none, or too short a one."""
        return self._decide(self.confirming, metric, CONFIRM_ALPHA) if len(self.confirming) >= PAIRS_MIN else None

    def pooled(self, metric: str | None = None) -> Decided:
        """All pairs together, as if they had been one look."""
        return self._decide([*self.screened, *self.confirming], metric, SCREEN_ALPHA)

    def change(self, metric: str | None = None) -> Change:
        """The answer of both looks."""
        return change.both(self.screen(metric), self.confirmation(metric), self.pooled(metric))

    def typical(self, metric: str | None = None) -> tuple[float, float]:
        """Median of a metric over all pairs, of base and candidate."""
        base, candidate = zip(
            *(pair.sides(metric or self.metric) for pair in (*self.screened, *self.confirming)), strict=True
        )
        return float(np.median(base)), float(np.median(candidate))

    def wants_confirmation(self) -> bool:
        """Whether the first look saw, or suspects, a change that a second one could confirm."""
        looks = [self.screen(metric) for metric in self.margins]
        return not self.confirming and any(one.suspect or one.change is Change.IMPROVED for one in looks)

    def open(self) -> bool:
        """Whether the first look could not decide."""
        return self.screen().change is Change.UNDECIDED

    def noise(self) -> Noise:
        """What its pairs say of themselves; some must have been taken."""
        return Noise(self.screen().found.deviation, self.cost)

    @property
    def cost(self) -> float:
        """Seconds of a pair so far; 0 before the first."""
        return self.seconds / max(len(self.screened) + len(self.confirming), 1)

    def _decide(self, pairs: Sequence[Turns], metric: str | None, alpha: float) -> Decided:
        name = metric or self.metric
        return change.decide([pair.log_ratio(name) for pair in pairs], self.margins[name], alpha)


class Contests:
    """Takes pairs of several contests within a time."""

    def __init__(
        self,
        contests: Sequence[Contest],
        seconds: float,
        on_pair: Callable[[Contest, str, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`seconds` are counted from now; `on_pair(contest, stage, pairs so far)` is called before each pair.

        `clock` tells the time in seconds; pairs that were stored are taken again by a clock of their own.
        """
        self._contests = list(contests)
        self._clock = clock
        self._started = clock()
        self._seconds = seconds
        self._on_pair = on_pair
        self._shuffle = random.Random(SEED)  # noqa: S311 - an order of turns that can be had again

    def run(self, pairs: int | None = None) -> None:
        """Screen, confirm what was seen, look longer at what is open.  `pairs` fixes the number of both looks.

        A contest whose guest fails is over; its `problem` says why.  No pair begins that would not end in time.
        """
        self._screen(dict.fromkeys(self._names(), PAIRS_MIN if pairs is None else pairs))
        if pairs is not None:
            self._confirm(pairs)
            return
        self._screen(self._numbers(self._going(), self._seconds * SCREEN_SHARE - self._spent))
        self._confirm()
        self._look_longer()
        self._confirm()

    @property
    def _spent(self) -> float:
        return self._clock() - self._started

    def _going(self) -> list[Contest]:
        return [one for one in self._contests if one.problem is None]

    def _names(self) -> list[str]:
        return [one.name for one in self._going()]

    def _numbers(self, contests: Collection[Contest], seconds: float) -> dict[str, int]:
        """How many pairs of each there are to be once so many more seconds have passed; no more than are of use."""
        known = {one.name: one for one in contests if len(one.screened) > 1}
        taken = sum(one.seconds for one in known.values())
        found = shares({name: one.noise() for name, one in known.items()}, seconds + taken)
        return {name: min(number, _enough(known[name])) for name, number in found.items()}

    def _screen(self, numbers: Mapping[str, int]) -> None:
        self._take("screen", {one.name: one.screened for one in self._going() if one.name in numbers}, numbers)

    def _confirm(self, pairs: int | None = None) -> None:
        """Fresh pairs for what is suspected: up to `CONFIRM_MOST` times as many as the first look took."""
        # Once only: a second look at the same pairs and some more would have another level.
        suspects = [one for one in self._going() if one.wants_confirmation()]
        if not suspects:
            return
        numbers = dict.fromkeys((one.name for one in suspects), pairs or 0)
        if pairs is None:
            left = self._seconds - self._spent
            found = shares({one.name: one.noise() for one in suspects}, left)
            numbers = {one.name: min(found[one.name], CONFIRM_MOST * len(one.screened)) for one in suspects}
        self._take("confirm", {one.name: one.confirming for one in suspects}, numbers)

    def _look_longer(self) -> None:
        """Give what is left to those that are not decided yet, keeping as much again to confirm with."""
        # What was confirmed, or was not, keeps the first look that this came from.
        undecided = [one for one in self._going() if one.open() and not one.confirming]
        if undecided:
            self._screen(self._numbers(undecided, (self._seconds - self._spent) / 2))

    def _take(self, stage: str, lists: Mapping[str, list[Turns]], numbers: Mapping[str, int]) -> None:
        """Round after round, a pair of each contest in random order, until each list has its number."""
        by_name = {one.name: one for one in self._contests}
        while waiting := [
            by_name[name]
            for name, pairs in lists.items()
            if len(pairs) < numbers[name] and by_name[name].problem is None
            if self._spent + by_name[name].cost <= self._seconds
        ]:
            for one in self._shuffle.sample(waiting, len(waiting)):
                if self._spent + one.cost <= self._seconds:
                    self._pair(one, stage, lists[one.name])

    def _pair(self, contest: Contest, stage: str, pairs: list[Turns]) -> None:
        self._on_pair(contest, stage, len(pairs))
        started = self._clock()
        try:
            pairs.append(contest.take())
        except SideProblem as problem:
            contest.problem = problem
        contest.seconds += self._clock() - started


def _enough(contest: Contest) -> int:
    """Pairs that find a slowdown of half a margin beyond the margin, as often as `POWER` says."""
    width = max(contest.margins[contest.metric] / 2, 0.001)
    return change.pairs_needed(contest.screen().found, width, SCREEN_ALPHA, POWER)

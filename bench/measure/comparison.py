"""An A/B: two sides of one cell timed against each other in two stages, until it is decided or the time is up.

The first stage screens; a change that it sees is confirmed by fresh pairs at a level of their own.  How many pairs the
stages take is fixed by the first few pairs' variance and the time that is left, never by their mean.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.grid.schema import Deadlines
from bench.measure.pairs import Side, Turns, run_pair
from bench.stats import change
from bench.stats.change import CONFIRM_ALPHA, SCREEN_ALPHA, Change, Decided
from bench.tasks.task import Tensor

SEED = 20260201
PILOT, PAIRS_MIN, PAIRS_MAX = 6, 6, 400
"""Pairs by which the number is fixed, and what it is kept within."""


@dataclass(frozen=True)
class Plan:
    """How much is spent on a comparison.

    `seconds` for both stages together; `inferences` each side of a pair; `margin` the slowdown that is allowed; `pairs`
    fixes the number of the first stage instead of the pilot.
    """

    seconds: float
    margin: float
    inferences: int = 24
    pairs: int | None = None


@dataclass
class Outcome:
    """What came of a comparison: the pairs of both stages in order, and what they decide."""

    margin: float
    screened: list[Turns] = field(default_factory=list)
    confirming: list[Turns] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def screen(self) -> Decided:
        """The first look."""
        return change.decide([pair.log_ratio for pair in self.screened], self.margin, SCREEN_ALPHA)

    @property
    def confirmation(self) -> Decided | None:
        """The second look, at fresh pairs; None where the first saw no change or no time was left."""
        if len(self.confirming) < PAIRS_MIN:
            return None
        return change.decide([pair.log_ratio for pair in self.confirming], self.margin, CONFIRM_ALPHA)

    @property
    def change(self) -> Change:
        """The answer of both."""
        return change.both(self.screen, self.confirmation)


class Comparison:
    """Runs pairs of one cell's two sides."""

    def __init__(
        self,
        sides: Mapping[str, Side],
        x: Tensor,
        plan: Plan,
        *,
        cpus: list[int],
        threads: int,
        deadlines: Deadlines,
        log: Path,
        on_pair: Callable[[str, int, int], None],
    ) -> None:
        """`x` is the input that both are timed on; `on_pair(stage, number, of)` is called before each pair."""
        self._sides = sides
        self._x = x
        self._plan = plan
        self._cpus = cpus
        self._threads = threads
        self._deadlines = deadlines
        self._log = log
        self._on_pair = on_pair
        self._shuffle = random.Random(SEED)  # noqa: S311 - an order of turns, repeatable on purpose

    def run(self) -> Outcome:
        """Screen, and confirm a change that was seen.  Raises CellProblem where a guest fails.

        Time runs out for the second stage first: it is given as many pairs as the first had where they fit.
        """
        started = time.monotonic()
        outcome = Outcome(self._plan.margin)
        self._stage("screen", outcome.screened, PILOT if self._plan.pairs is None else self._plan.pairs)
        if self._plan.pairs is None:
            wanted = self._wanted(outcome, time.monotonic() - started)
            self._stage("screen", outcome.screened, wanted)
        if outcome.screen.change in (Change.REGRESSED, Change.IMPROVED):
            each = (time.monotonic() - started) / len(outcome.screened)
            left = self._plan.seconds - (time.monotonic() - started)
            fit = len(outcome.screened) if self._plan.pairs is not None else int(left / each)
            wanted = min(max(len(outcome.screened), 2 * PAIRS_MIN), fit)
            if wanted >= PAIRS_MIN:
                self._stage("confirm", outcome.confirming, wanted)
        outcome.seconds = time.monotonic() - started
        return outcome

    def _wanted(self, outcome: Outcome, spent: float) -> int:
        """Pairs of the first stage: what a bound half a margin wide takes, as far as half of the time goes."""
        logs = [pair.log_ratio for pair in outcome.screened]
        each = spent / len(logs)
        fit = int(self._plan.seconds / 2 / each)
        needed = change.pairs_needed(logs, max(self._plan.margin / 2, 0.002))
        return max(PAIRS_MIN, min(needed, fit, PAIRS_MAX))

    def _stage(self, name: str, pairs: list[Turns], number: int) -> None:
        while len(pairs) < number:
            self._on_pair(name, len(pairs) + 1, number)
            pairs.append(
                run_pair(
                    self._sides,
                    self._x,
                    inferences=self._plan.inferences,
                    cpus=self._cpus,
                    threads=self._threads,
                    deadlines=self._deadlines,
                    log=self._log,
                    shuffle=self._shuffle,
                )
            )

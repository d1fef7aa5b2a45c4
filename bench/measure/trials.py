"""The pairs of the gate's self-check: of cells against themselves, against a planted slowdown, and other versions.

All of them are interleaved over the whole time, in random order, so that an hour's drift meets every one.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments.pinned import PinnedEnvironments
from bench.grid import machine
from bench.grid.matrix import Cell
from bench.grid.request import Grid, Request
from bench.grid.selfcheck import ITSELF, PLANTED, Plan, Sides
from bench.grid.tolerances import TIMED
from bench.measure.contest import SEED
from bench.measure.contestants import CURRENT, contest, make_side
from bench.measure.neighbours import busy
from bench.measure.outfit import Ingredients, Outfit
from bench.measure.pairs import BASE, CANDIDATE, SIDES, Side, SideProblem, Turns
from bench.reasons import CellProblem, UsageError
from bench.stats.allocation import PAIRS_MIN

_USUAL = 0.02
"""Standard deviation of a log ratio that is supposed of a cell until there are pairs to tell."""
_TELLING = 4


@dataclass
class Trial:
    """Two sides of which pairs are taken.

    `weight` is its share of the time before noise and cost; `logs` and `seconds` are what its pairs gave so far.
    """

    cell: Cell
    role: str
    base: str
    candidate: str
    dose: float
    busy: bool
    weight: float
    take: Callable[[], Turns]
    logs: list[float] = field(default_factory=list)
    seconds: float = 0.0
    problem: CellProblem | None = None

    @property
    def name(self) -> str:
        """What it is called while it runs."""
        what = f"+{self.dose:.0%}" if self.role == PLANTED else self.role
        return f"{self.cell.id} {what}{', busy' if self.busy else ''}"

    @property
    def cost(self) -> float:
        """Seconds of a pair so far; 0 before the first."""
        return self.seconds / max(len(self.logs), 1)


class Stand:
    """Makes the trials of a grid."""

    def __init__(self, request: Request, grid: Grid, given: Ingredients, plan: Plan, *, huge: bool, log: Path) -> None:
        """`log` takes the standard errors of guests.  Nothing is exported or installed yet."""
        self._request = request
        self._given = given
        self._plan = plan
        self._huge = huge
        self._log = log
        self._outfit = Outfit(given)
        self.cells = [cell for cell in grid.cells if _timed(grid, cell)]

    def trials(self, kinds: Sequence[Cell], skipped: Callable[[str], None], *, beside: bool) -> Iterator[Trial]:
        """Every trial of the kinds; `beside` adds those with the other CPUs busy.

        Exports and installs what they need; a kind that cannot be set up costs itself alone, and is told.  Raises
        UsageError where no other CPU is there to be busy.
        """
        if beside and any(not self._others(cell) for cell in kinds):
            raise UsageError("--busy needs a CPU beside those that guests are pinned to; there is none here")
        shares, outfit = self._plan.shares, self._outfit
        for cell in kinds:
            try:
                side = make_side(CURRENT, outfit, cell, huge=self._huge)
            except CellProblem as problem:
                skipped(f"{cell.id}: {problem}")
                continue
            yield self._trial(outfit, cell, ITSELF, (side, side), shares.itself)
            for dose in self._plan.doses:
                yield self._trial(outfit, cell, PLANTED, (side, _planted(side, dose)), shares.planted, dose)
            if beside:
                dose = self._plan.busy_dose
                yield self._trial(outfit, cell, ITSELF, (side, side), shares.busy, busy_too=True)
                sides = (side, _planted(side, dose))
                yield self._trial(outfit, cell, PLANTED, sides, shares.planted, dose, busy_too=True)

    def versions(self, options: Sequence[str], skipped: Callable[[str], None]) -> Iterator[Trial]:
        """Trials of other versions for these options; one that cannot be made costs itself alone, and is told."""
        for sides in self._plan.sides:
            cell = next((one for one in self.cells if _same(one, sides) and one.option.id in options), None)
            if cell is None:
                continue
            try:
                made = [self._version(cell, pin) for pin in (sides.base, sides.candidate)]
            except (CellProblem, UsageError) as problem:
                skipped(f"{sides.base} against {sides.candidate}: {problem}")
                continue
            weight = float(getattr(self._plan.shares, sides.role))
            yield self._trial(self._outfit, cell, sides.role, (made[0], made[1]), weight)

    def _version(self, cell: Cell, pin: str) -> Side:
        running = PinnedEnvironments(self._request.matrices, self._request.cache, [pin])
        return make_side(pin, Outfit(replace(self._given, running=running)), cell, huge=self._huge)

    def _others(self, cell: Cell) -> list[int]:
        """CPUs beside those that the cell's guests are pinned to."""
        return [cpu for cpu in machine.available_cpus() if cpu not in self._outfit.cpus(cell)]

    def _trial(
        self,
        outfit: Outfit,
        cell: Cell,
        role: str,
        sides: tuple[Side, Side],
        weight: float,
        dose: float = 0.0,
        *,
        busy_too: bool = False,
    ) -> Trial:
        name = f"{cell.id} {role} {dose} {busy_too}"
        alone = contest(name, outfit, cell, sides, {}, self._log).take

        def take() -> Turns:
            with busy(self._others(cell)) if busy_too else nullcontext():
                return alone()

        base, candidate = (side.label for side in sides)
        return Trial(cell, role, base, candidate, dose, busy_too, weight, take)


def run(
    trials: Sequence[Trial],
    seconds: float,
    *,
    on_pair: Callable[[Trial], None],
    keep: Callable[[Trial, Turns, float], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Take pairs until the time is up by `clock`; `keep(trial, pair, seconds of it)` is called after each at once.

    Next is a trial that is furthest behind its share, among equals by chance: in proportion to its weight times
    deviation over the square root of cost (Neyman 1934, with costs), as the gate shares out its own time.  A trial
    whose guest fails is over.  No pair begins that would not end in time.  At the end those come first that have fewer
    pairs than decide anything.
    """
    started = clock()
    shuffle = random.Random(f"{SEED} {started}")  # noqa: S311 - another order each time, since sessions are pooled
    while going := _fitting(trials, seconds - (clock() - started)):
        noises = _noises(trials)
        trial = min(going, key=lambda one: (len(one.logs) + shuffle.random()) / (one.weight * noises[one.cell.id]))
        on_pair(trial)
        began = clock()
        try:
            pair = trial.take()
        except SideProblem as problem:
            trial.problem = problem
            continue
        took = clock() - began
        trial.logs.append(pair.log_ratio())
        trial.seconds += took
        keep(trial, pair, took)


def row(trial: Trial, pair: Turns, seconds: float, *, session: str, number: int, huge: bool) -> dict[str, Any]:
    """A pair as a row of the store."""
    attested = pair.launches[CANDIDATE].attested
    return {
        "session": session,
        "number": number,
        "cell": trial.cell.id,
        "option": trial.cell.option.id,
        "precision": trial.cell.precision,
        "role": trial.role,
        "dose": float(attested.get("planted", 0.0)),
        "busy": trial.busy,
        "pages": "huge" if huge else "ordinary",
        "base": trial.base,
        "candidate": trial.candidate,
        "versions": " ".join(str(pair.launches[name].attested.get("version", "")) for name in SIDES),
        "seconds": seconds,
        **{metric: pair.log_ratio(metric) for metric in TIMED},
        "first": "".join("b" if name == BASE else "c" for name in pair.first),
        "base_ms": pair.base_ms.astype(np.float32),
        "candidate_ms": pair.candidate_ms.astype(np.float32),
    }


def _fitting(trials: Sequence[Trial], left: float) -> list[Trial]:
    """Trials of which a pair still ends in time; those that lack pairs alone, once the time is just enough for them."""
    going = [one for one in trials if one.problem is None and one.cost <= left]
    lacking = [one for one in going if len(one.logs) < PAIRS_MIN]
    needed = sum((PAIRS_MIN - len(one.logs)) * one.cost for one in lacking)
    return lacking if lacking and needed + max(one.cost for one in going) > left else going


def _noises(trials: Sequence[Trial]) -> Mapping[str, float]:
    """Deviation over the square root of cost of each cell, from all its trials' pairs around their own means."""
    by_cell: defaultdict[str, list[Trial]] = defaultdict(list)
    for one in trials:
        by_cell[one.cell.id].append(one)
    found = {}
    for cell, group in by_cell.items():
        taken = sum(len(one.logs) for one in group)
        cost = sum(one.seconds for one in group) / taken if taken else 1.0
        freedom = sum(max(len(one.logs) - 1, 0) for one in group)
        squares = sum(float(np.var(one.logs)) * len(one.logs) for one in group if one.logs)
        deviation = math.sqrt(squares / freedom) if freedom >= _TELLING else _USUAL
        found[cell] = max(deviation, 1e-4) / math.sqrt(cost)
    return found


def _planted(side: Side, dose: float) -> Side:
    return replace(side, label=f"+{dose:.0%}", spec={**side.spec, "planted": dose})


def _timed(grid: Grid, cell: Cell) -> bool:
    """Whether a cell is timed here, on the processor: slowdowns are shares of its time."""
    target = grid.matrix.targets[cell.target]
    return target.timed and target.device == "cpu" and machine.detect(target).found


def _same(cell: Cell, sides: Sides) -> bool:
    return cell.option.id == sides.option and cell.precision == sides.precision

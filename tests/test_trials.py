"""How the self-check shares out its time among trials, with guests that answer at once and a clock that says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from bench.grid.matrix import Cell, load
from bench.measure import trials
from bench.measure.pairs import BASE, SideProblem, Turns
from bench.measure.trials import Trial
from bench.places import MATRICES
from bench.reasons import CellProblem, Reason


@pytest.fixture
def cells() -> list[Cell]:
    matrix = load(MATRICES)
    return matrix.cells("model", matrix.sweep("smoke"))


class Clock:
    """Time that passes only where a pair says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trial(cell: Cell, role: str, weight: float, take: Callable[[], Turns]) -> Trial:
    return Trial(cell, role, "current", "current", 0.0, busy=False, weight=weight, take=take)


def pairs(clock: Clock, sd: float, seconds: float, seed: int) -> Callable[[], Turns]:
    draw = np.random.default_rng(seed)

    def take() -> Turns:
        clock.now += seconds
        return Turns(np.array([10.0]), np.array([10.0 * np.exp(draw.normal(0, sd))]), (BASE,), {})

    return take


def test_time_goes_by_weight_noise_and_cost_and_all_are_interleaved(cells: list[Cell], clock: Clock) -> None:
    quiet, noisy, *_ = cells
    every = [
        trial(quiet, "itself", 4, pairs(clock, 0.01, 4, 1)),
        trial(quiet, "planted", 1, pairs(clock, 0.01, 4, 2)),
        trial(noisy, "itself", 4, pairs(clock, 0.02, 4, 3)),
    ]
    order: list[int] = []
    trials.run(every, 2000, on_pair=lambda one: order.append(every.index(one)), keep=lambda *_pair: None, clock=clock)
    taken = Counter(order)
    assert len(order) == 500, "2000 s of 4 s each"
    assert taken[0] / taken[1] == pytest.approx(4, abs=0.2), "by weight"
    assert taken[2] / taken[0] == pytest.approx(2, abs=0.4), "twice the deviation, twice the pairs (Neyman)"
    halves = [Counter(order[:250]), Counter(order[250:])]
    assert halves[0][0] == pytest.approx(halves[1][0], abs=30), "over the whole time"


def test_none_is_left_with_too_few_pairs_to_decide_anything(cells: list[Cell], clock: Clock) -> None:
    every = [
        trial(cells[0], "itself", 1000, pairs(clock, 0.01, 1, 1)),
        trial(cells[0], "planted", 1, pairs(clock, 0.01, 1, 2)),
    ]
    trials.run(every, 100, on_pair=lambda _one: None, keep=lambda *_pair: None, clock=clock)
    assert [len(one.logs) for one in every] == [94, 6]


def test_a_guest_that_fails_ends_its_own_trial_alone(cells: list[Cell], clock: Clock) -> None:
    def dies() -> Turns:
        clock.now += 1
        raise SideProblem(BASE, CellProblem(Reason.CRASHED, "it died"))

    kept: list[Trial] = []
    every = [trial(cells[0], "itself", 1, pairs(clock, 0.01, 1, 1)), trial(cells[0], "planted", 1, dies)]
    trials.run(every, 20, on_pair=lambda _one: None, keep=lambda one, *_pair: kept.append(one), clock=clock)
    assert [len(one.logs) for one in every] == [19, 0]
    assert every[1].problem is not None
    assert kept == [every[0]] * 19

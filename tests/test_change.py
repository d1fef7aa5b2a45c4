"""The decision and what it stands on: contrasts of cells, intervals that pay for what repeats share, three answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.stats.change import Change, both, decide, of_pairs, pairs_needed, suspects, visible
from bench.stats.contrast import autocorrelation, mean

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]


def test_repeats_that_resemble_their_neighbours_are_worth_less() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 60)
    drifting = np.cumsum(rng.normal(0, 1, 60))
    assert abs(autocorrelation(noise)) < 0.35
    assert autocorrelation(drifting) > 0.6
    plain = drifting.std(ddof=1) / math.sqrt(len(drifting))
    assert mean(drifting).error > 1.7 * plain
    assert mean(drifting).freedom < 21


def normal(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.normal(0, 0.03, n)


def skewed(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.exponential(0.03, n) - 0.03


def slow_processes(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """One process in five is 10 % slower, on either side."""
    sides = rng.random((2, n)) < 0.2
    return np.asarray(rng.normal(0, 0.01, n) + 0.1 * (sides[0].astype(float) - sides[1].astype(float)), np.float64)


@pytest.mark.parametrize("draw", [normal, skewed, slow_processes])
@pytest.mark.parametrize("pairs", [12, 24])
def test_intervals_hold_the_truth_as_often_as_they_say(draw: Draw, pairs: int) -> None:
    rng = np.random.default_rng(1)
    held = sum(low <= 0 <= high for low, high in (mean(draw(rng, pairs)).bounds(0.95) for _ in range(1500)))
    assert held / 1500 >= 0.915  # 0.93 less three standard errors of 1500 trials


def test_three_answers_and_a_margin_between_different_and_worse() -> None:
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.004, 24)
    assert decide(noise + math.log(1.05), 0.01).change is Change.REGRESSED
    assert decide(noise - math.log(1.05), 0.01).change is Change.IMPROVED
    assert decide(noise, 0.01).change is Change.OK
    assert decide(noise + math.log(1.005), 0.01).change is Change.OK, "slower, and by less than the margin"
    assert decide(noise * 20, 0.01).change is Change.UNDECIDED
    assert decide(noise[:2], 0.01).change is Change.UNDECIDED, "two pairs say nothing"
    with pytest.raises(ValueError, match="at least 0"):
        decide(noise, -0.1)


def test_one_process_that_is_slow_for_life_does_not_hide_a_change() -> None:
    pairs = np.random.default_rng(5).normal(math.log(1.025), 0.01, 20)
    pairs[7] -= 0.12
    assert mean(pairs).lower(0.005) < math.log1p(0.003) < of_pairs(pairs).lower(0.005)
    assert of_pairs(pairs).value < mean(np.delete(pairs, 7)).value, "it is drawn in, and keeps its side"


def test_many_slow_processes_of_a_candidate_are_a_regression() -> None:
    rng = np.random.default_rng(6)
    pairs = rng.normal(0, 0.005, 40) + 0.1 * (rng.random(40) < 0.25)
    assert of_pairs(pairs).lower(0.005) > math.log1p(0.003)


@pytest.mark.parametrize(
    "pairs", [[0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.001, 0.12], [0.0, 0.001, 0.002, 0.003, 0.12]]
)
def test_pairs_that_mostly_agree_or_are_few_have_no_outliers(pairs: list[float]) -> None:
    assert of_pairs(pairs).value == mean(pairs).value


@pytest.mark.parametrize("pairs", [6, 14])
def test_the_bound_that_confirms_keeps_its_level_in_normal_noise(pairs: int) -> None:
    rng = np.random.default_rng(7)
    exceeded = sum(of_pairs(rng.normal(0, 0.01, pairs)).lower(0.005) > 0 for _ in range(6000))
    assert exceeded <= 54, "0.6 % of 6000, and three standard errors"


def test_false_alarms_of_two_looks_are_as_rare_as_promised() -> None:
    rng = np.random.default_rng(3)
    red = 0
    for _ in range(2000):
        first = decide(rng.normal(math.log(1.01), 0.02, 12), 0.01)  # as slow as the margin allows: the worst case
        second = decide(rng.normal(math.log(1.01), 0.02, 12), 0.01, 0.005)
        red += both(first, second) is Change.REGRESSED
    assert red <= 8, "0.2 times 0.005 is two in 2000"


def test_a_change_stands_only_where_both_looks_saw_it() -> None:
    rng = np.random.default_rng(4)
    slow, same = decide(rng.normal(0.05, 0.005, 12), 0.01), decide(rng.normal(0, 0.005, 12), 0.01)
    assert both(slow, slow) is Change.REGRESSED
    assert both(slow, same) is Change.UNDECIDED
    assert both(slow, None) is Change.UNDECIDED
    assert both(same, None) is Change.OK
    suspect = decide(np.tile([-0.005, 0.005], 6) + math.log(1.012), 0.01)
    assert suspect.change is Change.UNDECIDED
    assert suspect.suspect
    assert both(suspect, slow) is Change.REGRESSED, "the first look chooses, the second decides"
    assert both(suspect, same) is Change.UNDECIDED
    assert both(suspect, same, same) is Change.OK, "all pairs together show that it is not slower"
    assert not same.suspect
    assert both(same, slow) is Change.UNDECIDED, "nothing was suspected, so nothing is confirmed"


def test_what_was_visible_is_found_about_as_often_as_said() -> None:
    rng = np.random.default_rng(5)
    seen = visible(mean(rng.normal(0, 0.01, 24)), 0.01, 0.05)
    assert 0.014 < seen < 0.022
    found = sum(decide(rng.normal(math.log1p(seen), 0.01, 24), 0.01).change is Change.REGRESSED for _ in range(600))
    assert found / 600 >= 0.90


def test_the_number_of_pairs_follows_the_noise_and_not_the_mean() -> None:
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.01, 6)
    few = mean(noise)
    assert pairs_needed(few, 0.005) == pairs_needed(mean(noise + 0.3), 0.005)
    assert pairs_needed(few, 0.0025) > 3 * pairs_needed(few, 0.005)
    with pytest.raises(ValueError, match="two pairs"):
        pairs_needed(mean([0.0]), 0.01)


def test_suspects_are_corrected_for_how_many_there_are() -> None:
    assert suspects([0.001] + [0.5] * 19) == [True] + [False] * 19
    assert not any(suspects([0.04] + [0.5] * 19)), "one in twenty is what chance gives"
    assert suspects([]) == []

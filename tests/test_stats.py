"""Statistics against published constants, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import minimum_samples, percentile, ratio_interval


@pytest.mark.parametrize(("q", "samples"), [(90, 64), (99, 662), (95, 130)])
def test_minimum_is_that_of_mlperf(q: float, samples: int) -> None:
    assert minimum_samples(q) == samples
    # The closed form of "at most one of n above" just reaches 1 % there and not one sample earlier.
    tail = 1 - q / 100
    chances = [(1 - tail) ** n + n * tail * (1 - tail) ** (n - 1) for n in (samples - 1, samples)]
    assert chances[0] > 0.01 >= chances[1]


@pytest.mark.parametrize("q", [50, 100, 0, -5])
def test_there_is_no_minimum_outside_the_tail(q: float) -> None:
    with pytest.raises(ValueError, match="between 50 and 100"):
        minimum_samples(q)


@pytest.mark.parametrize(("q", "minimum"), [(90, 64), (99, 662), (50, 1), (25, 1)])
def test_percentile_needs_enough_samples(q: float, minimum: int) -> None:
    samples = np.random.default_rng(0).permutation(minimum).astype(float)
    assert percentile(samples, q) == pytest.approx((minimum - 1) * q / 100)
    assert percentile(samples[1:], q) is None


def test_percentile_of_a_handful_is_none_or_the_median() -> None:
    assert percentile([], 50) is None
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([3.0, 1.0, 2.0], 90) is None


def test_percentile_refuses_rubbish() -> None:
    with pytest.raises(ValueError, match="NaN"):
        percentile([1.0, math.nan], 50)
    with pytest.raises(ValueError, match=r"q must lie in 0\.\.100"):
        percentile([1.0], 101)


def launches(medians: list[float], count: int = 1) -> list[list[np.ndarray]]:
    """Launches of `count` rounds of three samples with the given medians, the outer ones far off."""
    return [[np.array([median * 0.9, median * 7, median])] * count for median in medians]


def test_ratio_is_the_geometric_mean_of_the_launches() -> None:
    interval = ratio_interval(launches([10, 20, 160]), launches([10, 10, 10]))
    assert interval.value == pytest.approx(32 ** (1 / 3))
    # Student's t for two degrees of freedom at 97.5 % is 4.303; the logs are 0, ln 2 and ln 16.
    half = 4.303 * np.std(np.log([1, 2, 16]), ddof=1) / math.sqrt(3)
    assert interval.high == pytest.approx(32 ** (1 / 3) * math.exp(half), rel=1e-3)


def test_one_disturbed_round_does_not_move_its_launch() -> None:
    reference = [[np.full(3, ms) for ms in (20.0, 20.0, 90.0)], [np.full(3, 20.0)] * 3]
    interval = ratio_interval(reference, launches([10, 10], 3))
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))


def test_exchanging_cell_and_reference_inverts_the_value_and_its_interval() -> None:
    rng = np.random.default_rng(1)
    reference, cell = ([list(launch) for launch in np.exp(rng.normal(mean, 0.1, (12, 2, 9)))] for mean in (3.0, 2.0))
    forward, backward = ratio_interval(reference, cell), ratio_interval(cell, reference)
    assert None not in (forward.low, forward.high, backward.low, backward.high)
    assert backward.value == pytest.approx(1 / forward.value)
    assert backward.low == pytest.approx(1 / forward.high)  # type: ignore[operator]
    assert backward.high == pytest.approx(1 / forward.low)  # type: ignore[operator]


def test_a_machine_that_slows_down_leaves_the_ratio_alone() -> None:
    drift = np.linspace(1, 5, 8)
    interval = ratio_interval([[np.full(5, 30 * d)] for d in drift], [[np.full(5, 10 * d)] for d in drift])
    assert (interval.value, interval.low, interval.high) == pytest.approx((3.0, 3.0, 3.0))


def test_one_launch_has_no_interval() -> None:
    interval = ratio_interval([[[20.0], [20.0]]], [[[10.0], [10.0]]])
    assert interval.value == pytest.approx(2.0)
    assert (interval.low, interval.high) == (None, None)


@pytest.mark.parametrize("count", [3, 8, 20])
def test_intervals_hold_the_true_ratio_about_as_often_as_they_say(count: int) -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(1000):
        logs = rng.normal(0, 0.03, (count, 1, 1)) + rng.normal(0, 0.015, (count, 2, 1))
        interval = ratio_interval(2.0 * np.exp(logs), np.ones((count, 2, 1)))  # type: ignore[arg-type]  # nested alike
        assert interval.low is not None
        assert interval.high is not None
        held += interval.low <= 2.0 <= interval.high
    assert 0.93 <= held / 1000 <= 0.97


def test_a_wider_confidence_gives_a_wider_interval() -> None:
    rng = np.random.default_rng(3)
    reference, cell = ([[row] for row in rng.uniform(low, low * 1.2, (9, 5))] for low in (10, 5))
    narrow, wide = (ratio_interval(reference, cell, confidence) for confidence in (0.5, 0.99))
    assert None not in (narrow.low, narrow.high, wide.low, wide.high)
    assert wide.low < narrow.low < narrow.high < wide.high  # type: ignore[operator]  # none is None


@pytest.mark.parametrize(
    ("reference", "compared", "message"),
    [
        ([], [], "need the same rounds"),
        ([[[1.0]]], [[[1.0]], [[2.0]]], "need the same rounds"),
        ([[[1.0]]], [[[1.0], [2.0]]], "need the same rounds"),
        ([[]], [[]], "need the same rounds"),
        ([[[1.0], []]], [[[1.0], [2.0]]], "round 1 of the reference"),
        ([[[1.0]]], [[[0.0]]], "round 0 of the cell"),
        ([[[1.0]]], [[[math.nan]]], "round 0 of the cell"),
    ],
)
def test_rounds_that_cannot_be_compared_are_refused(
    reference: list[list[list[float]]], compared: list[list[list[float]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ratio_interval(reference, compared)

"""Statistics against published constants, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats import minimum_samples, percentile_bound
from bench.stats.contrast import Readings, contrast
from bench.stats.launches import median_interval
from bench.stats.turns import Turn


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


@pytest.mark.parametrize(("samples", "discarded"), [(64, 0), (2048, 172), (2116, 178), (2145, 181)])
def test_bound_of_p90_is_the_sample_that_loadgen_reports(samples: int, discarded: int) -> None:
    """The last three are counts of queries and of discarded latencies in summaries that LoadGen itself has written."""
    values = np.random.default_rng(0).permutation(samples).astype(float)
    assert percentile_bound(values, 90) == samples - 1 - discarded


@pytest.mark.parametrize(("q", "minimum"), [(90, 64), (99, 662)])
def test_bound_needs_enough_samples_and_is_then_the_largest(q: float, minimum: int) -> None:
    values = np.arange(minimum, dtype=float)
    assert percentile_bound(values, q) == minimum - 1
    assert percentile_bound(values[1:], q) is None
    assert percentile_bound([], q) is None


@pytest.mark.parametrize(("q", "samples"), [(90, 200), (90, 1000), (99, 3000)])
def test_bound_lies_below_the_true_percentile_in_at_most_one_run_of_a_hundred(q: float, samples: int) -> None:
    """Uniform samples, whose q-th percentile is q / 100; the plain percentile lies below it in about half of them."""
    runs = np.random.default_rng(4).random((4000, samples))
    below = np.mean([bound < q / 100 for run in runs if (bound := percentile_bound(run, q)) is not None])
    plain = np.mean(np.percentile(runs, q, axis=1) < q / 100)
    # Three standard errors of a share of 1 % in 4000; and never so far below that it would be another percentile.
    assert 0.001 <= below <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 4000)
    assert plain > 0.4


def test_bound_refuses_rubbish() -> None:
    with pytest.raises(ValueError, match="NaN"):
        percentile_bound([1.0, math.nan], 90)
    with pytest.raises(ValueError, match="between 50 and 100"):
        percentile_bound([1.0], 50)


@pytest.mark.parametrize(("launches", "ends"), [(5, None), (6, (1, 6)), (8, (1, 8)), (9, (2, 8)), (20, (6, 15))])
def test_median_of_launches_is_bounded_by_order_statistics(launches: int, ends: tuple[int, int] | None) -> None:
    """As in tables of the sign test's interval, where the chance of each end is at most 2.5 %; five have 3.1 %."""
    values = [float(value) for value in np.random.default_rng(5).permutation(launches) + 1]
    found = median_interval(values)
    assert found.value == (launches + 1) / 2
    assert (found.low, found.high) == (ends or (None, None))


def test_median_of_no_launch_is_refused() -> None:
    with pytest.raises(ValueError, match="no launch"):
        median_interval([])


def readings(medians: list[list[float]]) -> Readings:
    """A list per launch of the medians of its rounds, of three samples each, the outer ones far off."""
    rounds = [(launch, ms) for launch, rounds in enumerate(medians) for ms in rounds]
    return Readings.of(
        [
            Turn("c", 0, launch, number, 0, (ms * 0.9, ms * 7, ms), 1.0, 0.0)
            for number, (launch, ms) in enumerate(rounds)
        ]
    )


def test_ratio_is_the_geometric_mean_of_the_launches() -> None:
    interval = contrast(readings([[10], [20], [160]]), readings([[10], [10], [10]]))
    assert interval is not None
    assert interval.value == pytest.approx(32 ** (1 / 3))
    # Student's t for two degrees of freedom at 97.5 % is 4.303; the logs are 0, ln 2 and ln 16.
    half = 4.303 * np.std(np.log([1, 2, 16]), ddof=1) / math.sqrt(3)
    assert interval.high == pytest.approx(32 ** (1 / 3) * math.exp(half), rel=1e-3)


def test_one_disturbed_round_does_not_move_its_launch() -> None:
    interval = contrast(readings([[20, 20, 90], [20] * 3, [20] * 3]), readings([[10] * 3] * 3))
    assert interval is not None
    assert (interval.value, interval.low, interval.high) == pytest.approx((2.0, 2.0, 2.0))


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_launches_have_no_interval(count: int) -> None:
    interval = contrast(readings([[20, 20]] * count), readings([[10, 10]] * count))
    assert interval is not None
    assert interval.value == pytest.approx(2.0)
    assert (interval.low, interval.high) == (None, None)


def test_launches_that_resemble_their_neighbours_widen_the_interval() -> None:
    """Twenty launches of a first-order process with r = 0.5 are worth a third: wider by the square root of three."""
    rng = np.random.default_rng(6)
    logs = np.zeros(20)
    for number in range(1, 20):
        logs[number] = 0.5 * logs[number - 1] + rng.normal(0, 0.03)
    alternating = np.sort(logs).reshape(2, 10).T.ravel()  # the same values, low and high by turns
    widths = []
    for values in (logs, alternating):
        interval = contrast(readings(np.exp(values)[:, None].tolist()), readings([[1.0]] * 20))
        assert interval is not None
        assert interval.low is not None
        assert interval.high is not None
        widths.append(math.log(interval.high / interval.low))
    assert widths[0] > 1.5 * widths[1]

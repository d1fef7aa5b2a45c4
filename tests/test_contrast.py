"""Cell against cell: from their own rounds, all pairs at once, and against a yardstick that carries little error."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from bench import store
from bench.decide.timings import timings
from bench.places import RECORDED
from bench.stats import contrast as rules
from bench.stats.contrast import Reading, Readings, against, against_all, by_launch, contrast, contrasts, holm, shared
from bench.stats.turns import Turn


def cell(times: list[float], rounds: int = 2) -> Readings:
    """A turn per time, `rounds` a launch."""
    turns = [Turn("c", 0, index // rounds, index, 0, (ms,) * 5, 1.0, 0.0) for index, ms in enumerate(times)]
    return Readings.of(turns)


def drawn(rng: np.random.Generator, launches: int, ms: float, spread: float, common: Any = 0.0) -> Readings:
    """A cell whose launches differ by `spread`, and by what all cells have in `common`, a round each."""
    logs = math.log(ms) + common + rng.normal(0, spread, launches)
    return Readings({(0, launch, launch): (Reading(0, float(log)),) for launch, log in enumerate(logs)})


def test_a_contrast_knows_nothing_of_a_third_cell() -> None:
    drift = [1.0, 1.0, 1.3, 1.3, 0.8, 0.8, 1.1, 1.1]
    one, other = cell([10 * d for d in drift]), cell([20 * d for d in drift])
    found, back = contrast(one, other), contrast(other, one)
    assert found is not None
    assert back is not None
    assert [found.value, found.low, found.high] == pytest.approx([0.5] * 3)
    assert back.value == pytest.approx(1 / found.value)


def test_only_shared_rounds_count_and_few_launches_give_no_interval() -> None:
    one, other = cell([10.0, 10.0, 99.0, 99.0]), cell([20.0, 20.0])
    found = contrast(one, other)
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.low is None
    assert contrast(one, Readings({})) is None
    assert by_launch(one, other) == {(0, 0): pytest.approx(math.log(0.5))}


def test_a_turn_is_compared_with_the_nearest_of_the_several_turns_of_another_cell() -> None:
    # The machine is twice as slow from the fifth turn on; the reference takes turns 0, 4 and 9.
    reference = tuple(Reading(order, math.log(ms)) for order, ms in ((0, 10.0), (4, 10.0), (9, 20.0)))
    for order, ms in ((1, 30.0), (3, 30.0), (8, 60.0)):
        one = Readings({(0, 0, 0): (Reading(order, math.log(ms)),)})
        logs = by_launch(one, Readings({(0, 0, 0): reference}))
        assert logs[0, 0] == pytest.approx(math.log(3))
        assert by_launch(Readings({(0, 0, 0): reference}), one)[0, 0] == pytest.approx(-math.log(3))
    # Two that are as near count half each, in logarithms.
    between = Readings({(0, 0, 0): (Reading(2, math.log(30.0)),)})
    unequal = Readings({(0, 0, 0): (Reading(1, math.log(10.0)), Reading(3, math.log(40.0)))})
    assert by_launch(between, unequal)[0, 0] == pytest.approx(math.log(30 / 20))
    # Two cells with several turns each: exchanging them turns the sign.
    other = Readings({(0, 0, 0): tuple(Reading(order, math.log(7.0 + order)) for order in (2, 5, 7))})
    several = Readings({(0, 0, 0): reference})
    assert by_launch(several, other)[0, 0] == pytest.approx(-by_launch(other, several)[0, 0])


def test_disturbed_turns_are_left_out_while_enough_launches_remain() -> None:
    steady = cell([10.0] * 8, rounds=2)

    def disturbed(launches: set[int]) -> Readings:
        bad = Reading(0, math.log(90.0), clean=False)
        return Readings({key: (bad,) if key[1] in launches else turns for key, turns in steady.rounds.items()})

    assert {key[1] for key in shared(steady, disturbed({1}))} == {0, 2, 3}
    found = against(disturbed({1}), steady)
    assert found is not None
    assert found.value == pytest.approx(0)
    assert len(shared(steady, disturbed({1, 2}))) == 8, "two clean launches are too few to leave the others out"


def test_holm_adjusts_as_its_author_does() -> None:
    # The worked example: 0.01 x 4, 0.02 x 3, 0.03 x 2, and the last is not less than the one before it.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_chance_that_any_order_is_wrong_is_at_most_what_is_said() -> None:
    """Ten cells of one speed, of which the first is as noisy as PyTorch: no pair may be told apart, in 95 of 100 runs.

    Without an allowance for their number it would be one pair in twenty, so nearly always some.
    """
    rng = np.random.default_rng(0)
    wrong = naive = 0
    for _ in range(200):
        cells = {str(i): drawn(rng, 6, 40.0, 0.08 if i == 0 else 0.02) for i in range(10)}
        found = contrasts(cells)
        wrong += bool(found.sure)
        naive += any(mean.p_value <= 0.05 for mean in found.means.values())
    assert wrong <= 20  # of 200; 10 are expected at most, and 20 have a chance of one in a thousand
    assert naive > 120


def test_what_all_cells_share_hides_no_difference() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0, 0.3, 8)
    cells = {str(ms): drawn(rng, 8, ms, 0.003, common) for ms in (40.0, 42.0, 44.0)}
    found = contrasts(cells)
    assert found.sure == {("40.0", "42.0"), ("40.0", "44.0"), ("42.0", "44.0")}
    one, other = found.between("40.0", "44.0"), found.between("44.0", "40.0")
    assert one is not None
    assert other is not None
    assert one.value == -other.value == pytest.approx(math.log(40 / 44), abs=0.01)
    assert against(cells["40.0"], Readings({})) is None


def test_a_yardstick_of_many_is_narrower_than_a_noisy_reference() -> None:
    rng = np.random.default_rng(2)
    cells = [drawn(rng, 12, ms, 0.015) for ms in (30.0, 35.0, 40.0, 45.0, 50.0)]
    noisy = drawn(rng, 12, 80.0, 0.09)
    own, both = against_all(cells[0], cells[1:]), against(cells[0], noisy)
    assert own is not None
    assert both is not None
    assert own.error < both.error / 3
    # It is the ratio to the geometric mean.
    assert own.value == pytest.approx(math.log(30) - np.log([35, 40, 45, 50]).mean(), abs=0.03)
    assert against_all(cells[0], cells[1:3]) is None, f"fewer than {rules.OTHERS_MIN} are no yardstick"
    # Cells that left early would make a yardstick that changes from launch to launch.
    early = Readings({key: value for key, value in cells[4].rounds.items() if key[1] < 3})
    same, with_early = against_all(cells[0], cells[1:4]), against_all(cells[0], [*cells[1:4], early])
    assert same == with_early
    # A cell of two windows (a reference) is held against the cells of one of them.
    second = [Readings({(1, *key[1:]): turns for key, turns in other.rounds.items()}) for other in cells[1:4]]
    twice = Readings({**cells[0].rounds, **{(1, *key[1:]): turns for key, turns in cells[0].rounds.items()}})
    assert against_all(twice, [*cells[1:4], *second]) == same
    assert against_all(cells[0], []) is None


# Two recorded runs

RUNS = [RECORDED / name for name in ("coco128-640-cpu", "coco128-640-guide")]
needs_runs = pytest.mark.skipif(not all(run.is_dir() for run in RUNS), reason="recorded runs are in a checkout only")


def disagreeing(values: list[tuple[float, float]]) -> bool:
    """Whether two estimates (value, standard error) of one quantity lie apart by more than 95 % of such pairs do."""
    (one, first), (other, second) = values
    return abs(one - other) > 2.1 * math.hypot(first, second)  # t of about 20 degrees of freedom


@needs_runs
def test_two_runs_agree_about_cells_and_disagree_about_pytorch() -> None:
    """Ten cells of two runs of one machine, hours apart: nine of ten agree against the others, none against PyTorch.

    PyTorch's process was slower in one of the runs, and what is compared with it alone moves with it, all one way.
    """
    timed = [timings(store.read_table(run, "samples")) for run in RUNS]
    cells = sorted(timed[0].keys() & timed[1].keys())
    (reference,) = (name for name in cells if "pytorch-fp32" in name)
    others = [name for name in cells if name != reference]
    assert len(others) == 9

    def found(name: str, yardstick: list[str]) -> bool:
        both = [against_all(run[name], [run[other] for other in yardstick if other != name]) for run in timed]
        return disagreeing([(one.value, one.error) for one in both if one is not None])

    assert sum(found(name, others) for name in cells) == 1
    assert found(reference, others)

    def by_reference(name: str) -> bool:
        both = [against(run[name], run[reference]) for run in timed]
        return disagreeing([(one.value, one.error) for one in both if one is not None])

    assert sum(by_reference(name) for name in others) == 9
    told = [contrasts({name: run[name] for name in others}).sure for run in timed]
    assert not {pair[::-1] for pair in told[0]} & told[1], (
        "no order that one run is sure of is turned round in the other"
    )
    assert len(told[0]) > 0.9 * len(list(combinations(others, 2)))

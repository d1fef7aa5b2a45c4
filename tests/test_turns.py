"""What turns amount to: which were disturbed, which reference turn a cell is compared with, and the summary."""

from __future__ import annotations

import math

import pytest

from bench.stats.summary import compare, summarise
from bench.stats.turns import STEAL_LIMIT, Turn, clean, contaminated


def turn(
    number: int,
    *,
    cell: str = "a",
    ms: float = 10.0,
    cpu: float = 1.0,
    steal: float = 0.0,
    due: float | None = None,
    order: int = 0,
) -> Turn:
    """A turn of round `number`, two rounds a launch."""
    return Turn(cell, 0, number // 2, number, order, (ms,) * 10, cpu, steal, due)


def references(rounds: int) -> list[Turn]:
    return [turn(number, cell="ref", ms=20.0) for number in range(rounds)]


def test_contamination_by_steal_and_by_less_cpu_than_usual() -> None:
    turns = [turn(0), turn(1, steal=STEAL_LIMIT * 2), turn(2, cpu=0.8), turn(3), turn(4)]
    assert contaminated(turns) == [False, True, True, False, False]
    assert [each.round for each in clean(turns)] == [0, 3, 4]
    assert contaminated([]) == []


@pytest.mark.parametrize(
    ("cpu", "due", "bad"),
    [
        (0.5, 1.0, True),  # half a CPU all along, as recorded in coco128-320-arm-emulated
        (0.5, None, False),  # a GPU does the work: half a CPU is its guest's usual share
        (0.91, 1.0, False),
        (1.98, 1.0, False),  # two threads
    ],
)
def test_who_lost_cpu_all_along_is_seen_by_what_was_due(cpu: float, due: float | None, *, bad: bool) -> None:
    assert contaminated([turn(number, cpu=cpu, due=due) for number in range(6)]) == [bad] * 6


def test_two_threads_that_lose_one_now_and_then_are_seen_by_their_usual_share() -> None:
    turns = [turn(number, cpu=1.3 if number == 3 else 1.98, due=1.0) for number in range(6)]
    assert contaminated(turns) == [False] * 3 + [True] + [False] * 2


def test_rounds_contaminated_for_cell_or_reference_are_left_out_of_the_ratio() -> None:
    cell, reference = [turn(number) for number in range(8)], references(8)
    cell[2] = turn(2, ms=50.0, cpu=0.2)
    reference[5] = turn(5, cell="ref", ms=99.0, steal=0.5)
    summary = summarise(cell, reference)
    assert summary.ratio == pytest.approx(2.0)
    assert (summary.launches, summary.rounds, summary.contaminated) == (4, 6, 2)
    assert summary.p50_ms == 10.0
    assert summary.ratio_low == pytest.approx(2.0)
    assert not summary.disturbed


def test_clean_rounds_in_too_few_launches_give_figures_without_an_interval() -> None:
    cell = [turn(number, steal=0.5 if number else 0.0) for number in range(20)]
    summary = summarise(cell, references(20))
    assert summary.disturbed
    assert (summary.rounds, summary.contaminated) == (20, 19)
    assert summary.ratio == pytest.approx(2.0)
    assert (summary.ratio_low, summary.ratio_high, summary.p90_ms) == (None, None, None)


def test_a_reference_that_was_disturbed_all_along_disturbs_its_cells() -> None:
    reference = [turn(number, cell="ref", ms=20.0, cpu=0.5, due=1.0) for number in range(8)]
    summary = summarise([turn(number) for number in range(8)], reference)
    assert summary.disturbed
    assert summary.contaminated == 8
    assert summary.ratio_low is None


def test_of_several_turns_of_the_reference_the_nearest_counts_and_of_two_as_near_their_mean() -> None:
    """Drift within a round: the reference takes 10, 40 and 90 ms at the places 0, 4 and 8."""
    cells, reference = [], []
    for number, order in enumerate((1, 2, 7)):
        cells.append(turn(2 * number, order=order))
        reference += [
            turn(2 * number, cell="ref", ms=ms, order=place) for place, ms in ((0, 10.0), (4, 40.0), (8, 90.0))
        ]
    # Places 1 and 7 have a nearest; place 2 lies between 10 and 40 ms, whose geometric mean is 20.
    assert compare(cells, reference).logs == pytest.approx([0.0, math.log(2), math.log(9)])


def test_a_disturbed_turn_of_the_reference_leaves_the_next_nearest() -> None:
    cells = [turn(2 * number, order=1) for number in range(3)]
    reference = []
    for number in range(3):
        reference.append(turn(2 * number, cell="ref", ms=99.0, order=0, steal=0.5 if number == 1 else 0.0))
        reference.append(turn(2 * number, cell="ref", ms=40.0, order=5))
    compared = compare(cells, reference)
    assert compared.logs == pytest.approx([math.log(9.9), math.log(4), math.log(9.9)])
    assert compared.contaminated == 0


def test_the_reference_against_itself_has_the_ratio_one() -> None:
    summary = summarise(references(8), references(8))
    assert (summary.ratio, summary.ratio_low, summary.ratio_high) == (1.0, 1.0, 1.0)


def test_bounds_need_enough_samples() -> None:
    few = summarise([turn(number) for number in range(6)], [])
    assert few.p90_ms is None
    many = summarise([turn(number, ms=10.0 + number) for number in range(7)], [])
    assert many.p90_ms == 16.0, "the largest of 70: the second largest is the bound only from 81 up"
    assert many.p99_ms is None
    assert many.ratio is None


def test_autocorrelation_of_launches_is_reported() -> None:
    """Ten slow launches after ten fast ones resemble their neighbours as much as can be."""
    cell = [turn(number, ms=10.0 if number < 20 else 11.0) for number in range(40)]
    drifting = summarise(cell, references(40))
    assert drifting.autocorrelation is not None
    assert drifting.autocorrelation > 0.8
    steady = summarise([turn(number, ms=10.0 + number // 2 % 2) for number in range(40)], references(40))
    assert steady.autocorrelation is not None
    assert steady.autocorrelation < 0

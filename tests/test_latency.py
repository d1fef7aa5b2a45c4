"""Interleaved rounds: order, stopping, contamination and failure, with timers that only pretend to take time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from bench import stats
from bench.latency import STEAL_LIMIT, Turn, Window, contaminated_rounds, summarise, windows
from bench.matrix import Latency
from bench.reasons import CellProblem, Reason
from bench.worker import Timing

PLAN = Latency(samples=10, warmup=1, min_rounds=6, max_rounds=12, half_width=0.01, budget_s=60)


def timer(ms: float, noise: float, seed: int, failing_at: int = -1) -> Callable[[int, int], Timing]:
    generator = np.random.default_rng(seed)
    calls = 0

    def time(n: int, warmup: int) -> Timing:
        nonlocal calls
        del warmup
        if calls == failing_at:
            raise CellProblem(Reason.CRASHED, "died")
        calls += 1
        samples = ms * np.exp(generator.normal(0, noise, n) + generator.normal(0, noise))
        return Timing(samples, float(samples.sum()) / 1e3, float(samples.sum()) / 1e3, 1)

    return time


def window(plan: Latency = PLAN, **timers: Callable[[int, int], Timing]) -> Window:
    return Window(0, timers, dict.fromkeys(timers, "ref"), plan, [0], seed=1)


def ignore(number: int, name: str) -> None:
    del number, name


def turn(number: int, *, cell: str = "a", ms: float = 10.0, cpu: float = 1.0, steal: float = 0.0) -> Turn:
    return Turn(cell, 0, number, 0, (ms,) * 10, cpu, 0.1, steal)


def test_every_round_holds_every_cell_once_in_changing_order() -> None:
    run = window(ref=timer(20, 0.2, 1), a=timer(10, 0.2, 2), b=timer(40, 0.2, 3))
    run.run(ignore)
    turns = [entry for group in run.turns.values() for entry in group]
    assert set(Counter((entry.round, entry.cell_id) for entry in turns).values()) == {1}
    orders = {entry.cell_id: [] for entry in turns}
    for entry in turns:
        orders[entry.cell_id].append(entry.order)
    assert all(len(set(order)) > 1 for order in orders.values())
    assert set(run.stop.values()) == {"rounds"}


def test_quiet_cells_stop_at_the_interval_and_the_ratio_is_right() -> None:
    run = window(ref=timer(20, 0.001, 1), a=timer(10, 0.001, 2))
    run.run(ignore)
    assert run.stop == {"a": "interval", "ref": "interval"}
    assert len(run.turns["a"]) == PLAN.min_rounds
    summary = run.summary("a")
    assert summary.ratio == pytest.approx(2.0, rel=0.01)
    assert summary.ratio_low is not None
    assert summary.ratio_low <= 2.0 * 1.01
    assert run.summary("ref").ratio == 1.0


def test_a_slow_cell_has_shorter_turns() -> None:
    run = window(Latency(**PLAN.model_dump() | {"turn_s": 1.0}), ref=timer(20, 0.001, 1), a=timer(300, 0.001, 2))
    run.run(ignore)
    assert len(run.turns["ref"][0].samples_ms) == PLAN.samples
    assert [len(turn.samples_ms) for turn in run.turns["a"]][1:] == [2] * (len(run.turns["a"]) - 1)


def test_budget_stops_after_the_least_rounds() -> None:
    run = window(Latency(**PLAN.model_dump() | {"budget_s": 1e-6}), ref=timer(20, 0.5, 1), a=timer(10, 0.5, 2))
    run.run(ignore)
    assert set(run.stop.values()) == {"budget"}
    assert len(run.turns["a"]) == PLAN.min_rounds


def test_a_dying_guest_costs_its_own_cell_alone() -> None:
    run = window(ref=timer(20, 0.001, 1), a=timer(10, 0.001, 2, failing_at=3), b=timer(5, 0.001, 4))
    run.run(ignore)
    assert run.problems["a"].reason is Reason.CRASHED
    assert len(run.turns["a"]) == 3
    assert run.stop["b"] == "interval"
    assert run.summary("b").ratio == pytest.approx(4.0, rel=0.01)


def test_a_dying_reference_leaves_times_but_no_ratio_beyond_its_rounds() -> None:
    run = window(ref=timer(20, 0.001, 1, failing_at=0), a=timer(10, 0.001, 2))
    run.run(ignore)
    summary = run.summary("a")
    assert summary.ratio is None
    assert summary.p50_ms == pytest.approx(10, rel=0.01)


def test_contamination_by_steal_and_by_lack_of_cpu() -> None:
    turns = [turn(0), turn(1, steal=STEAL_LIMIT * 2), turn(2, cpu=0.8), turn(3), turn(4)]
    assert contaminated_rounds(turns) == {1, 2}
    assert contaminated_rounds([]) == set()


def test_contaminated_rounds_of_cell_or_reference_are_left_out_of_the_ratio() -> None:
    cell = [turn(n) for n in range(8)]
    reference = [turn(n, cell="ref", ms=20.0) for n in range(8)]
    cell[2] = turn(2, ms=50.0, cpu=0.2)
    reference[5] = turn(5, cell="ref", ms=99.0, steal=0.5)
    summary = summarise(cell, reference)
    assert summary.ratio == pytest.approx(2.0)
    assert summary.rounds == 6
    assert summary.contaminated == 2
    assert summary.p50_ms == 10.0


def test_too_few_clean_rounds_uses_all_and_says_how_many_were_contaminated() -> None:
    cell = [turn(n, steal=0.5 if n else 0.0) for n in range(6)]
    summary = summarise(cell, [turn(n, cell="ref", ms=20.0) for n in range(6)])
    assert summary.rounds == 6
    assert summary.contaminated == 5


def test_percentiles_need_enough_samples() -> None:
    few = summarise([turn(n) for n in range(6)], [])
    assert few.p90_ms is None
    many = summarise([turn(n) for n in range(7)], [])
    assert many.p90_ms == 10.0
    assert many.p99_ms is None
    assert stats.minimum_samples(99) == 662


def test_windows_fit_the_memory_and_hold_their_reference() -> None:
    rss = {"ref": 10, "a": 40, "b": 40, "c": 40, "huge": 500}
    groups = windows(rss, dict.fromkeys(rss, "ref"), 100)
    assert groups == [["ref", "a", "b"], ["ref", "c"], ["ref", "huge"]]
    assert windows({"ref": 10}, {"ref": "ref"}, 100) == [["ref"]]

"""Interleaved rounds: order, stopping, contamination and failure, with timers that only pretend to take time."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench import stats
from bench.grid.schema import Latency
from bench.measure.window import Window, windows
from bench.reasons import CellProblem, Reason
from bench.stats.turns import STEAL_LIMIT, Turn, contaminated_rounds, summarise
from bench.wall.worker import Timing

PLAN = Latency(samples=10, warmup=1, rounds=2, min_launches=4, max_launches=8, half_width=0.01, budget_s=60)


class Guests:
    """Guests that only pretend: `of` maps a cell to its ms, its noise per sample, per turn and per launch."""

    def __init__(self, failing: tuple[str, int] = ("", -1), **of: tuple[float, float, float]) -> None:
        self.of = of
        self.generator = np.random.default_rng(1)
        self.launches: Counter[str] = Counter()
        self.turns: Counter[str] = Counter()
        self.failing = failing

    def launch(self, name: str) -> Guest:
        self.launches[name] += 1
        if self.failing == (name, -self.launches[name]):
            raise CellProblem(Reason.LOAD_FAILED, "did not start")
        return Guest(self, name, float(np.exp(self.generator.normal(0, self.of[name][2]))))


class Guest:
    """One launch of one of them; `factor` is what this process is slower by for as long as it lives."""

    def __init__(self, guests: Guests, name: str, factor: float) -> None:
        self.guests, self.name, self.factor = guests, name, factor
        self.last_inference_ms: float | None = guests.of[name][0]

    def time(self, n: int, warmup: int = 0) -> Timing:
        del warmup
        self.guests.turns[self.name] += 1
        if self.guests.failing == (self.name, self.guests.turns[self.name]):
            raise CellProblem(Reason.CRASHED, "died")
        ms, noise, _ = self.guests.of[self.name]
        normal = self.guests.generator.normal
        samples = ms * self.factor * np.exp(normal(0, noise, n) + normal(0, noise))
        return Timing(samples, float(samples.sum()) / 1e3, float(samples.sum()) / 1e3, 1)


def window(guests: Guests, plan: Latency = PLAN) -> Window:
    return Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), plan, [0], seed=1)


def ignore(launch: int, number: int, name: str) -> None:
    del launch, number, name


def turn(number: int, *, cell: str = "a", ms: float = 10.0, cpu: float = 1.0, steal: float = 0.0) -> Turn:
    """A turn of round `number`, two rounds a launch."""
    return Turn(cell, 0, number // 2, number, 0, (ms,) * 10, cpu, steal)


QUIET = (10.0, 0.001, 0.0)


def test_every_round_holds_every_cell_once_in_changing_order() -> None:
    run = window(Guests(ref=(20, 0.2, 0.1), a=(10, 0.2, 0.1), b=(40, 0.2, 0.1)))
    run.run(ignore)
    turns = [entry for group in run.turns.values() for entry in group]
    assert set(Counter((entry.round, entry.cell_id) for entry in turns).values()) == {1}
    assert {entry.round // 2 == entry.launch for entry in turns} == {True}
    orders: dict[str, list[int]] = {entry.cell_id: [] for entry in turns}
    for entry in turns:
        orders[entry.cell_id].append(entry.order)
    assert all(len(set(order)) > 1 for order in orders.values())
    assert set(run.stop.values()) == {"launches"}
    assert len(run.turns["a"]) == PLAN.max_launches * PLAN.rounds


def test_every_launch_starts_every_guest_anew() -> None:
    guests = Guests(ref=(20, 0.2, 0.1), a=(10, 0.2, 0.1))
    window(guests).run(ignore)
    assert guests.launches == {"ref": PLAN.max_launches, "a": PLAN.max_launches}


def test_quiet_cells_stop_at_the_interval_and_the_ratio_is_right() -> None:
    run = window(Guests(ref=(20, 0.001, 0), a=QUIET))
    run.run(ignore)
    assert run.stop == {"a": "interval", "ref": "interval"}
    assert len(run.turns["a"]) == PLAN.min_launches * PLAN.rounds
    summary = run.summary("a")
    assert summary.ratio == pytest.approx(2.0, rel=0.01)
    assert summary.ratio_low is not None
    assert summary.ratio_low <= 2.0 * 1.01
    assert run.summary("ref").ratio == 1.0


def test_a_process_that_keeps_its_own_speed_widens_the_interval() -> None:
    run = window(Guests(ref=(20, 0.001, 0), a=(10, 0.001, 0.05)))
    run.run(ignore)
    summary = run.summary("a")
    assert run.stop["a"] == "launches"
    assert summary.ratio_low is not None
    assert summary.ratio_high is not None
    assert summary.ratio_low < 2.0 < summary.ratio_high
    assert summary.ratio_high / summary.ratio_low > 1.03


def test_a_slow_cell_has_shorter_turns() -> None:
    plan = Latency(**PLAN.model_dump() | {"turn_s": 1.0})
    run = window(Guests(ref=(20, 0.001, 0), a=(300, 0.001, 0)), plan)
    run.run(ignore)
    assert len(run.turns["ref"][0].samples_ms) == PLAN.samples
    assert {len(turn.samples_ms) for turn in run.turns["a"]} == {2}


def test_budget_stops_after_the_least_launches() -> None:
    run = window(Guests(ref=(20, 0.5, 0), a=(10, 0.5, 0)), Latency(**PLAN.model_dump() | {"budget_s": 1e-6}))
    run.run(ignore)
    assert set(run.stop.values()) == {"budget"}
    assert len(run.turns["a"]) == PLAN.min_launches * PLAN.rounds


@pytest.mark.parametrize(("at", "reason", "turns"), [(4, Reason.CRASHED, 3), (-2, Reason.LOAD_FAILED, 2)])
def test_a_dying_guest_costs_its_own_cell_alone(at: int, reason: Reason, turns: int) -> None:
    run = window(Guests(("a", at), ref=(20, 0.001, 0), a=QUIET, b=(5, 0.001, 0)))
    run.run(ignore)
    assert run.problems["a"].reason is reason
    assert len(run.turns["a"]) == turns
    assert run.stop["b"] == "interval"
    assert run.summary("b").ratio == pytest.approx(4.0, rel=0.01)


def test_a_dying_reference_leaves_times_but_no_ratio_beyond_its_rounds() -> None:
    run = window(Guests(("ref", 1), ref=(20, 0.001, 0), a=QUIET))
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
    assert (summary.launches, summary.rounds, summary.contaminated) == (4, 6, 2)
    assert summary.p50_ms == 10.0


def test_clean_rounds_in_too_few_launches_uses_all_and_says_how_many_were_contaminated() -> None:
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

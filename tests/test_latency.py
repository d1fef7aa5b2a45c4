"""Interleaved rounds: order, number of launches and failure, with timers that only pretend to take time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import pytest

from bench.grid.schema import Latency
from bench.measure.window import LONGEST_TURN, REFERENCE_EVERY, REFERENCE_LOST, Window, windows
from bench.reasons import CellProblem, Reason
from bench.stats.change import pairs_needed
from bench.stats.contrast import mean
from bench.stats.summary import compare
from bench.stats.turns import CPU_SHARE_LIMIT, Turn
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
        self.share = 1.0

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
        wall = float(samples.sum()) / 1e3
        return Timing(samples, wall * self.guests.share, wall, 1)


def window(guests: Guests, plan: Latency = PLAN) -> Window:
    return Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), plan, [0], seed=1)


def ignore(launch: int, number: int, name: str) -> None:
    del launch, number, name


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


def test_quiet_cells_have_the_first_stage_alone_and_the_ratio_is_right() -> None:
    run = window(Guests(ref=(20, 0.001, 0), a=QUIET))
    run.run(ignore)
    assert run.stop == {"a": "interval", "ref": "interval"}
    assert len(run.turns["a"]) == PLAN.min_launches * PLAN.rounds
    summary = run.summary("a")
    assert summary.ratio == pytest.approx(2.0, rel=0.01)
    assert summary.ratio_low is not None
    assert summary.ratio_low <= 2.0 * 1.01
    assert run.summary("ref").ratio == 1.0


def test_the_first_stage_fixes_each_cells_launches_by_its_variance_alone() -> None:
    """Stein's number, from the first four launches; the reference is there as long as the cell that needs most."""
    plan = Latency(**PLAN.model_dump() | {"max_launches": 500, "half_width": 0.05})
    run = window(Guests(ref=(20, 0.001, 0), a=(10, 0.001, 0.04), b=(10, 0.001, 0.08), c=QUIET), plan)
    run.run(ignore)
    launched = {name: len({turn.launch for turn in turns}) for name, turns in run.turns.items()}
    for name in "abc":
        first = [[turn for turn in run.turns[each] if turn.launch < plan.min_launches] for each in (name, "ref")]
        assert launched[name] == pairs_needed(mean(compare(*first).logs), 0.05, 0.025)
    assert launched["c"] == plan.min_launches < launched["a"] < launched["b"] == launched["ref"]
    assert set(run.stop.values()) == {"interval"}


def test_a_cell_is_launched_as_often_whatever_its_ratio() -> None:
    """Three times as fast, in the same noise: a rule that looked at the mean, or on until it liked it, would differ."""
    plan = Latency(**PLAN.model_dump() | {"max_launches": 500, "half_width": 0.05})
    numbers = []
    for ms in (10, 30):
        run = window(Guests(ref=(20, 0.001, 0), a=(ms, 0.001, 0.05)), plan)
        run.run(ignore)
        numbers.append(run.launches["a"])
    assert numbers[0] == numbers[1] > plan.min_launches


def test_a_long_round_holds_the_reference_about_every_tenth_turn() -> None:
    guests = Guests(ref=(20, 0.001, 0))
    guests.of |= {f"c{number:02d}": QUIET for number in range(37)}
    run = window(guests)
    run.run(ignore)
    for number in range(PLAN.min_launches * PLAN.rounds):
        turns = [turn for group in run.turns.values() for turn in group if turn.round == number]
        places = sorted(turn.order for turn in run.turns["ref"] if turn.round == number)
        assert len(places) == round(38 / REFERENCE_EVERY)
        # In each stretch of 10 or 11 turns there is one, so none is further away than that.
        assert max(min(abs(turn.order - place) for place in places) for turn in turns) <= REFERENCE_EVERY
        assert sorted(turn.order for turn in turns) == list(range(len(turns))), "every turn has a place of its own"
    assert run.summary("c05").ratio == pytest.approx(2.0, rel=0.01)
    assert run.summary("ref").rounds == PLAN.min_launches * PLAN.rounds


@pytest.mark.parametrize(("due", "interval"), [({"a": 1.0, "ref": 1.0}, False), ({}, True)])
def test_half_a_cpu_all_along_leaves_a_cpu_bound_cell_without_an_interval(
    due: dict[str, float], *, interval: bool
) -> None:
    """Where a CPU is due; a browser or a GPU's guest, to which none is, may well use half of one."""
    guests = Guests(ref=(20, 0.001, 0), a=QUIET)
    guests.share = CPU_SHARE_LIMIT / 2
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), PLAN, [0], seed=1, cpu_due=due)
    run.run(ignore)
    summary = run.summary("a")
    assert summary.disturbed is not interval
    assert (summary.ratio_low is not None) is interval
    assert summary.contaminated == (0 if interval else PLAN.max_launches * PLAN.rounds)
    # More launches are tried where nothing is known yet, in case the disturbance ends.
    assert run.stop["a"] == ("interval" if interval else "launches")


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


def test_a_spent_budget_leaves_the_first_stage() -> None:
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


def test_a_dying_reference_stops_what_is_compared_with_it_after_its_round() -> None:
    guests = Guests(("ref", 1), ref=(20, 0.001, 0), a=QUIET)
    run = window(guests)
    run.run(ignore)
    assert set(run.problems) == {"ref"}
    assert run.stop["a"] == REFERENCE_LOST
    assert len(run.turns["a"]) == 1, "it has its turn of the first round, and no other"
    assert guests.launches == {"ref": 1, "a": 1}
    summary = run.summary("a")
    assert summary.ratio is None
    assert summary.p50_ms == pytest.approx(10, rel=0.01)


def test_a_reference_that_dies_later_leaves_the_ratio_of_the_rounds_before() -> None:
    """Its fourth turn is that of the second launch's last round; three rounds were shared, in two launches."""
    run = window(Guests(("ref", 4), ref=(20, 0.001, 0), a=QUIET))
    run.run(ignore)
    assert run.stop["a"] == REFERENCE_LOST
    assert len(run.turns["a"]) == 4
    summary = run.summary("a")
    assert (summary.rounds, summary.launches) == (3, 2)
    assert summary.ratio == pytest.approx(2.0, rel=0.01)
    assert summary.ratio_low is None, "two launches have no interval"


def test_a_reference_that_dies_with_the_first_stage_lets_no_launch_be_bought() -> None:
    last = PLAN.min_launches * PLAN.rounds
    guests = Guests(("ref", last), ref=(20, 0.2, 0.1), a=(10, 0.2, 0.1))
    run = window(guests)
    run.run(ignore)
    assert run.stop == {"a": REFERENCE_LOST}
    assert guests.launches["a"] == PLAN.min_launches
    assert run.summary("a").rounds == last - 1


def test_a_reference_that_does_not_start_leaves_nothing_to_time() -> None:
    guests = Guests(("ref", -1), ref=(20, 0.001, 0), a=QUIET, b=QUIET)
    run = window(guests)
    run.run(ignore)
    assert set(run.problems) == {"ref"}
    assert run.stop == {"a": REFERENCE_LOST, "b": REFERENCE_LOST}
    assert not guests.turns


def test_every_turn_is_handed_on_by_the_end_of_its_round_also_when_that_is_cut_short() -> None:
    kept: list[Sequence[Turn]] = []
    guests = Guests(ref=(20, 0.001, 0), a=QUIET, b=QUIET)
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), PLAN, [0], seed=1, keep=kept.append)
    begun: list[str] = []

    def stop_in_the_third_round(launch: int, number: int, name: str) -> None:
        begun.append(name)
        if (launch, number) == (1, 0) and len(begun) == 3 + 3 + 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(stop_in_the_third_round)
    assert [[turn.cell_id for turn in turns] for turns in kept] == [begun[:3], begun[3:6], begun[6:7]]
    assert [{turn.round for turn in turns} for turns in kept] == [{0}, {1}, {2}]
    assert sorted(turn.order for turn in kept[0]) == [0, 1, 2]


@pytest.mark.parametrize(("left", "launches", "stop"), [(40.0, 8, "launches"), (39.0, 7, "budget"), (9.0, 4, "budget")])
def test_the_budget_buys_whole_launches_at_the_price_of_the_first_ones(left: float, launches: int, stop: str) -> None:
    """Each launch of the two takes 10 s, the four of the first stage 40; the plan has at most eight."""
    run = window(Guests(ref=(20, 0.1, 0.1), a=(10, 0.1, 0.1)))
    for launch in range(PLAN.min_launches):
        run._rounds(run._start(launch), launch, PLAN.rounds, ignore)
    run._starting, run._seconds = {"ref": 4.0, "a": 8.0}, {"ref": 8.0, "a": 20.0}
    run._fix(left)
    assert run.launches == {"ref": launches, "a": launches}
    assert run.stop == {"ref": stop, "a": stop}


class Deck:
    """Inputs of which each cell has so many, as `bench.measure.evaluation` has them; it keeps what happened."""

    def __init__(self, guests: Guests, inputs: int) -> None:
        self.guests = guests
        self.remaining = dict.fromkeys(guests.of, inputs)
        self.did: list[str] = []
        self.asked: list[int] = []

    def left(self, names: Collection[str]) -> int:
        return max(self.remaining[name] for name in names)

    def prepare(self, names: Collection[str], n: int) -> None:
        del names
        self.asked.append(n)
        self.did.append("prepare")

    def infer(self, name: str, n: int, warmup: int) -> Timing:
        self.remaining[name] -= min(warmup + n, self.remaining[name])
        self.did.append(name)
        return Guest(self.guests, name, 1.0).time(n, warmup)

    def digest(self) -> None:
        self.did.append("digest")


def evaluating(inputs: int, guests: Guests, plan: Latency = PLAN) -> tuple[Window, Deck]:
    deck = Deck(guests, inputs)
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), plan, [0], seed=1, inputs=deck)
    run.run(ignore)
    return run, deck


def test_a_launch_for_which_inputs_are_left_costs_its_start() -> None:
    """Of 128 the first stage leaves 40, which two launches infer: 3 s each, 10 for any other; of 16 s, three in all."""
    guests = Guests(ref=(20, 0.1, 0.1), a=(10, 0.1, 0.1))
    run = Window(0, guests.launch, dict.fromkeys(guests.of, "ref"), PLAN, [0], seed=1, inputs=Deck(guests, 128))
    for launch in range(PLAN.min_launches):
        run._rounds(run._start(launch), launch, PLAN.rounds, ignore)
    run._starting, run._seconds = {"ref": 4.0, "a": 8.0}, {"ref": 8.0, "a": 20.0}
    run._fix(16.0)
    assert run.launches == {"ref": 7, "a": 7}
    assert run.stop["a"] == "budget"


def test_inputs_left_by_the_first_stage_are_shared_out_to_the_launches_that_come() -> None:
    """Four launches of two rounds infer 88 of 208, as they would without any; eight more rounds have 15 each.

    One of each turn is not timed.
    """
    run, deck = evaluating(208, Guests(ref=(20, 0.2, 0.1), a=(10, 0.2, 0.1)))
    assert deck.remaining == {"ref": 0, "a": 0}
    assert run.launches["a"] == PLAN.max_launches
    assert [len(turn.samples_ms) for turn in run.turns["a"]] == [10] * 8 + [14] * 8


def test_inputs_are_prepared_before_a_round_and_looked_at_after_each_turn() -> None:
    _, deck = evaluating(200, Guests(ref=(20, 0.001, 0), a=QUIET))
    rounds = [deck.did[start : start + 5] for start in range(0, len(deck.did), 5)]
    assert {("prepare", "digest", "digest")} == {(one[0], one[2], one[4]) for one in rounds}
    assert all({one[1], one[3]} == {"ref", "a"} for one in rounds)


def test_where_no_launch_is_left_the_last_one_goes_on_with_the_inputs() -> None:
    """912 of 1000 in turns of 21 at most, one of them untimed: 44 more rounds."""
    run, deck = evaluating(1000, Guests(ref=(20, 0.001, 0), a=QUIET))
    assert run.stop["a"] == "interval"
    assert deck.remaining == {"ref": 0, "a": 0}
    assert Counter(turn.launch for turn in run.turns["a"]) == {0: 2, 1: 2, 2: 2, 3: 2 + 44}
    assert [turn.round for turn in run.turns["a"]] == list(range(52))
    assert max(len(turn.samples_ms) for turn in run.turns["a"]) == LONGEST_TURN * PLAN.samples


def test_few_inputs_leave_turns_as_the_plan_has_them() -> None:
    run, deck = evaluating(3, Guests(ref=(20, 0.001, 0), a=QUIET))
    assert deck.remaining["a"] == 0
    assert [len(turn.samples_ms) for turn in run.turns["a"]] == [PLAN.samples] * PLAN.min_launches * PLAN.rounds


def test_who_is_launched_less_often_keeps_inputs() -> None:
    run, deck = evaluating(200, Guests(ref=(20, 0.001, 0), a=QUIET, b=(10, 0.2, 0.1)))
    assert (run.launches["a"], run.launches["b"]) == (PLAN.min_launches, PLAN.max_launches)
    assert deck.remaining == {"ref": 0, "a": 112, "b": 0}


def test_a_slow_cell_keeps_its_short_turns_whatever_inputs_it_has() -> None:
    plan = Latency(**PLAN.model_dump() | {"turn_s": 1.0})
    run, deck = evaluating(100, Guests(ref=(20, 0.001, 0), a=(300, 0.001, 0)), plan)
    assert {len(turn.samples_ms) for turn in run.turns["a"]} == {2}
    assert deck.remaining["ref"] == 0
    assert deck.remaining["a"] == 100 - 3 * len(run.turns["a"]) > 0


def test_no_more_inputs_are_prepared_than_somebody_takes() -> None:
    plan = Latency(**PLAN.model_dump() | {"turn_s": 1.0})
    _, deck = evaluating(100, Guests(ref=(300, 0.001, 0), a=(400, 0.001, 0)), plan)
    assert set(deck.asked) == {3}, "1 s has three inferences of the faster one, of which the first is untimed"


def test_a_cell_is_slow_though_its_turn_comes_out_as_the_plan_has_it() -> None:
    """Of 87 ms eleven fit into a second, one of them untimed: ten; two untimed ones more would not."""
    plan = Latency(**PLAN.model_dump() | {"turn_s": 1.0, "warmup": 2})
    run, deck = evaluating(1000, Guests(ref=(20, 0.001, 0), a=(87, 0.001, 0)), plan)
    assert max(len(turn.samples_ms) for turn in run.turns["ref"]) == LONGEST_TURN * plan.samples
    assert {len(turn.samples_ms) for turn in run.turns["a"]} == {10}
    assert len(run.turns["a"]) == 8 + 42, "as many rounds as the quick one needs for its 1000, and no more"
    assert deck.remaining == {"ref": 0, "a": 1000 - 11 * (8 + 42)}


def test_a_dead_reference_leaves_inputs_to_nobody() -> None:
    guests = Guests(("ref", 1), ref=(20, 0.001, 0), a=QUIET)
    run, deck = evaluating(100, guests)
    assert set(run.problems) == {"ref"}
    assert deck.remaining["a"] == 89, "its turn of the first round"


def test_windows_fit_the_memory_and_hold_their_reference() -> None:
    rss = {"ref": 10, "a": 40, "b": 40, "c": 40, "huge": 500}
    groups = windows(dict.fromkeys(rss, "ref"), (rss, 100))
    assert groups == [["ref", "a", "b"], ["ref", "c"], ["ref", "huge"]]
    assert windows({"ref": "ref"}, ({"ref": 10}, 100)) == [["ref"]]

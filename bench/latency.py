"""Latency by interleaved rounds: every cell of a time window takes one turn per round, in random order.

The reference (PyTorch FP32) takes its turn in each round too, so a cell's ratio to it compares two turns a few
seconds apart and survives a machine whose speed drifts.  What is stored is every sample of every turn; what is
summarised here are pure functions over turns.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psutil

from bench import stats
from bench.matrix import Latency
from bench.reasons import CellProblem
from bench.worker import Timing

# A turn is contaminated when the hypervisor took more than this share of its CPUs' time ...
STEAL_LIMIT = 0.02
# ... or when the guest got less CPU time per wall time than this share of its own median over the window.
CPU_SHARE_LIMIT = 0.9
# With fewer clean rounds than this a bootstrap over rounds says little, so all rounds are used instead.
CLEAN_ROUNDS_MIN = 5


@dataclass(frozen=True)
class Turn:
    """One cell's turn in one round: `samples_ms` are its timed inferences, in order."""

    cell_id: str
    window: int
    round: int
    order: int
    samples_ms: tuple[float, ...]
    cpu_per_wall: float
    load1: float
    steal: float


@dataclass(frozen=True)
class Summary:
    """What the turns of a cell amount to.  Times in ms; `ratio` is reference time over cell time."""

    p50_ms: float
    p90_ms: float | None
    p99_ms: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    samples: int
    rounds: int
    contaminated: int


def contaminated_rounds(turns: Sequence[Turn]) -> set[int]:
    """Rounds in which the turns of one cell were disturbed, by steal or by a lack of CPU time."""
    if not turns:
        return set()
    usual = float(np.median([turn.cpu_per_wall for turn in turns]))
    return {turn.round for turn in turns if turn.steal > STEAL_LIMIT or turn.cpu_per_wall < CPU_SHARE_LIMIT * usual}


def summarise(turns: Sequence[Turn], reference: Sequence[Turn]) -> Summary:
    """Summary of a cell from its turns and the reference's turns of the same window.

    Rounds that are contaminated for either are left out, unless too few would remain.  An empty `reference` (it
    failed) leaves the ratio out; the reference against itself has the ratio 1 exactly.
    """
    itself = bool(reference) and turns[0].cell_id == reference[0].cell_id
    reference_by_round = {turn.round: turn for turn in reference}
    shared = [turn.round for turn in turns if not reference or turn.round in reference_by_round]
    bad = contaminated_rounds(turns) | contaminated_rounds(reference)
    clean = [number for number in shared if number not in bad]
    used = set(clean if len(clean) >= CLEAN_ROUNDS_MIN else shared)
    own = [turn for turn in turns if turn.round in used]
    samples = np.concatenate([turn.samples_ms for turn in own])
    interval: tuple[float | None, float | None, float | None] = (None, None, None)
    if itself:
        interval = (1.0, 1.0, 1.0)
    elif reference:
        found = stats.ratio_interval(
            [np.asarray(reference_by_round[turn.round].samples_ms) for turn in own],
            [np.asarray(turn.samples_ms) for turn in own],
        )
        interval = (found.value, found.low, found.high)
    return Summary(
        float(np.median(samples)),
        stats.percentile(samples, 90),
        stats.percentile(samples, 99),
        *interval,
        samples=len(samples),
        rounds=len(own),
        contaminated=len(bad & set(shared)),
    )


@dataclass
class Window:
    """One time window: the cells that share it and what came of it.

    `timers` maps a cell id to a call that times n inferences in its guest; `reference_of` maps it to the id of its
    reference, which is in `timers` too.  `expected_ms` is what one inference of a cell took before.
    """

    number: int
    timers: Mapping[str, Callable[[int, int], Timing]]
    reference_of: Mapping[str, str]
    plan: Latency
    cpus: Sequence[int]
    seed: int
    expected_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start with no turn taken and no cell stopped."""
        self.turns: dict[str, list[Turn]] = {name: [] for name in self.timers}
        self.problems: dict[str, CellProblem] = {}
        self.stop: dict[str, str] = {}

    def run(self, on_turn: Callable[[int, str], None]) -> None:
        """Take rounds until each cell's interval is narrow enough, the budget is spent or the cap is reached.

        A guest that fails costs its own cell alone; `problems` says why.  `on_turn(round, cell id)` is called
        before each turn.  Everything measured so far is in `turns` also when this is interrupted.
        """
        shuffle = random.Random(self.seed + self.number)
        started = time.monotonic()
        for number in range(self.plan.max_rounds):
            names = self._active()
            if not names:
                return
            shuffle.shuffle(names)
            for order, name in enumerate(names):
                if time.monotonic() - started > self.plan.budget_s and number >= self.plan.min_rounds:
                    self._finish("budget")
                    return
                on_turn(number, name)
                self._turn(name, number, order)
            if number + 1 >= self.plan.min_rounds:
                self._stop_narrow()
        self._finish("rounds")

    def summary(self, name: str) -> Summary:
        """Summary of a cell of this window; it must have taken a turn."""
        return summarise(self.turns[name], self.turns.get(self.reference_of[name], []))

    def _active(self) -> list[str]:
        """Cells still to be timed.  References stay to the end: only `_finish` stops them."""
        return sorted(name for name in self.timers if name not in self.stop and name not in self.problems)

    def _is_reference(self, name: str) -> bool:
        return self.reference_of[name] == name

    def _inferences(self, name: str) -> tuple[int, int]:
        """How many timed and untimed inferences a turn of a cell has: the plan's, or fewer of a slow cell."""
        turns = self.turns[name]
        expected = float(np.median(turns[-1].samples_ms)) if turns else self.expected_ms.get(name, 0.0)
        if expected * (self.plan.samples + self.plan.warmup) <= self.plan.turn_s * 1e3:
            return self.plan.samples, self.plan.warmup
        warmup = min(self.plan.warmup, 1)
        return max(1, int(self.plan.turn_s * 1e3 / expected) - warmup), warmup

    def _turn(self, name: str, number: int, order: int) -> None:
        load1 = os.getloadavg()[0]
        before = _cpu_times(self.cpus)
        try:
            timing = self.timers[name](*self._inferences(name))
        except CellProblem as problem:
            self.problems[name] = problem
            return
        after = _cpu_times(self.cpus)
        total = after[0] - before[0]
        turn = Turn(
            name,
            self.number,
            number,
            order,
            tuple(float(sample) for sample in timing.samples_ms),
            timing.cpu_s / timing.wall_s if timing.wall_s else 0.0,
            load1,
            (after[1] - before[1]) / total if total else 0.0,
        )
        self.turns[name].append(turn)

    def _stop_narrow(self) -> None:
        """Let cells go whose interval is narrow enough."""
        for name in self.timers:
            if name in self.stop or name in self.problems or self._is_reference(name):
                continue
            summary = self.summary(name)
            if summary.ratio is None or summary.ratio_low is None or summary.ratio_high is None:
                continue
            if (summary.ratio_high - summary.ratio_low) / 2 <= self.plan.half_width * summary.ratio:
                self.stop[name] = "interval"
        if all(name in self.stop or name in self.problems or self._is_reference(name) for name in self.timers):
            self._finish("interval")

    def _finish(self, why: str) -> None:
        for name in self.timers:
            if name not in self.problems:
                self.stop.setdefault(name, why)


def _cpu_times(cpus: Iterable[int]) -> tuple[float, float]:
    """Total and stolen CPU seconds of the given CPUs since boot (steal is 0 where the system has none)."""
    times = psutil.cpu_times(percpu=True)
    chosen = [times[cpu] for cpu in cpus if cpu < len(times)]
    return sum(sum(entry) for entry in chosen), sum(getattr(entry, "steal", 0.0) for entry in chosen)


def windows(peak_rss: Mapping[str, int], references: Mapping[str, str], memory_bytes: int) -> list[list[str]]:
    """Split cells into time windows whose guests fit into `memory_bytes` together with their references.

    `peak_rss` maps each cell to the peak resident bytes of its guest, in the order wanted.  A cell too large for
    the budget still gets a window of its own.
    """
    result: list[list[str]] = []
    current: list[str] = []
    for name in peak_rss:
        if references[name] == name:
            continue
        candidate = [*current, name]
        members = set(candidate) | {references[member] for member in candidate}
        if current and sum(peak_rss.get(member, 0) for member in members) > memory_bytes:
            result.append(current)
            candidate = [name]
        current = candidate
    if current:
        result.append(current)
    with_references = [list(dict.fromkeys([references[name] for name in group] + group)) for group in result]
    covered = {name for group in with_references for name in group}
    alone = [name for name in peak_rss if name not in covered]
    return with_references + ([alone] if alone else [])

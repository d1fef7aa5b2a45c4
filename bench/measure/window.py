"""Latency by launches of interleaved rounds: every cell of a time window takes one turn per round, in random order.

The reference (PyTorch FP32) takes its turn in each round too, so a cell's ratio to it compares two turns a few
seconds apart and survives a machine whose speed drifts.  After a few rounds every guest is started anew: a process
keeps the speed its memory layout happens to give it for as long as it lives, and that differs between processes of
the same kind by more than rounds do.  What is stored is every sample of every turn; `bench/stats/turns.py` sums up.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
import psutil

from bench.grid.schema import Latency
from bench.reasons import CellProblem
from bench.stats.turns import Summary, Turn, summarise
from bench.wall.worker import Timing


class TimedGuest(Protocol):
    """What a window needs of a running guest: bench.wall.worker.Worker has it."""

    last_inference_ms: float | None

    def time(self, n: int, warmup: int = 0) -> Timing:
        """Time `n` inferences after `warmup` untimed ones.  Raises CellProblem."""


class Window:
    """One time window: the cells that share it and what came of it."""

    def __init__(
        self,
        number: int,
        launch: Callable[[str], TimedGuest],
        reference_of: Mapping[str, str],
        plan: Latency,
        cpus: Sequence[int],
        seed: int,
    ) -> None:
        """Start with no turn taken and no cell stopped.

        `reference_of` maps every cell of the window to its reference, which is among them.  `launch` ends the guest
        of a cell, where one runs, and starts a new one, ready to be timed; it raises CellProblem.
        """
        self.number = number
        self.plan = plan
        self.turns: dict[str, list[Turn]] = {name: [] for name in reference_of}
        self.problems: dict[str, CellProblem] = {}
        self.stop: dict[str, str] = {}
        self._launch = launch
        self._reference_of = reference_of
        self._cpus = cpus
        self._shuffle = random.Random(seed + number)  # noqa: S311 - an order of turns that can be had again

    def run(self, on_turn: Callable[[int, int, str], None]) -> None:
        """Launch again and again until each interval is narrow enough, the budget is spent or the cap is reached.

        A guest that fails costs its own cell alone; `problems` says why.  `on_turn(launch, round, cell id)` is
        called before each turn.  Everything measured so far is in `turns` also when this is interrupted.
        """
        started = time.monotonic()
        for launch in range(self.plan.max_launches):
            guests = self._start()
            for number in range(launch * self.plan.rounds, (launch + 1) * self.plan.rounds):
                names = [name for name in guests if name not in self.problems]
                self._shuffle.shuffle(names)
                for order, name in enumerate(names):
                    on_turn(launch, number, name)
                    self._turn(name, guests[name], launch, number, order)
            if launch + 1 >= self.plan.min_launches:
                self._stop_narrow()
                if time.monotonic() - started > self.plan.budget_s:
                    self._finish("budget")
            if not self._active():
                return
        self._finish("launches")

    def _start(self) -> dict[str, TimedGuest]:
        guests: dict[str, TimedGuest] = {}
        names = self._active()
        self._shuffle.shuffle(names)
        for name in names:
            try:
                guests[name] = self._launch(name)
            except CellProblem as problem:
                self.problems[name] = problem
        return guests

    def summary(self, name: str) -> Summary:
        """Summary of a cell of this window; it must have taken a turn."""
        return summarise(self.turns[name], self.turns.get(self._reference_of[name], []))

    def _active(self) -> list[str]:
        """Cells still to be timed.  References stay to the end: only `_finish` stops them."""
        return sorted(name for name in self.turns if name not in self.stop and name not in self.problems)

    def _is_reference(self, name: str) -> bool:
        return self._reference_of[name] == name

    def _inferences(self, name: str, guest: TimedGuest) -> tuple[int, int]:
        """How many timed and untimed inferences a turn of a cell has: the plan's, or fewer of a slow cell."""
        turns = self.turns[name]
        expected = float(np.median(turns[-1].samples_ms)) if turns else guest.last_inference_ms or 0.0
        if expected * (self.plan.samples + self.plan.warmup) <= self.plan.turn_s * 1e3:
            return self.plan.samples, self.plan.warmup
        warmup = min(self.plan.warmup, 1)
        return max(1, int(self.plan.turn_s * 1e3 / expected) - warmup), warmup

    def _turn(self, name: str, guest: TimedGuest, launch: int, number: int, order: int) -> None:
        before = _cpu_times(self._cpus)
        try:
            timing = guest.time(*self._inferences(name, guest))
        except CellProblem as problem:
            self.problems[name] = problem
            return
        after = _cpu_times(self._cpus)
        total = after[0] - before[0]
        turn = Turn(
            name,
            self.number,
            launch,
            number,
            order,
            tuple(float(sample) for sample in timing.samples_ms),
            timing.cpu_s / timing.wall_s if timing.wall_s else 0.0,
            (after[1] - before[1]) / total if total else 0.0,
        )
        self.turns[name].append(turn)

    def _stop_narrow(self) -> None:
        """Let cells go whose interval is narrow enough."""
        for name in self.turns:
            if name in self.stop or name in self.problems or self._is_reference(name):
                continue
            summary = self.summary(name)
            if summary.ratio is None or summary.ratio_low is None or summary.ratio_high is None:
                continue
            if (summary.ratio_high - summary.ratio_low) / 2 <= self.plan.half_width * summary.ratio:
                self.stop[name] = "interval"
        if all(name in self.stop or name in self.problems or self._is_reference(name) for name in self.turns):
            self._finish("interval")

    def _finish(self, why: str) -> None:
        for name in self.turns:
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

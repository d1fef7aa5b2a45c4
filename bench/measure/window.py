"""Latency by launches of interleaved rounds: every cell of a time window takes one turn per round, in random order.

The reference (PyTorch FP32) takes a turn in every stretch of about ten, so a cell's ratio to it compares two turns a
few seconds apart and survives a machine whose speed drifts.  After a few rounds every guest is launched anew: it keeps
the speed its memory layout happens to give it for as long as it has that, and this differs between processes of the
same kind by more than rounds do.  How many launches a cell gets is fixed after the first few, from how much they
differ and never from what they say.  What is stored is every sample of every turn; `bench/stats/summary.py` sums up.

Where the cells are evaluated too, their turns go through the images: every cell of a round infers the same ones, and
what gives the accuracy is what is timed, but for the first inferences of a turn.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import psutil

from bench.grid.schema import Latency
from bench.reasons import CellProblem
from bench.stats.change import pairs_needed
from bench.stats.contrast import mean
from bench.stats.summary import Summary, compare, summarise
from bench.stats.turns import OnGpu, Turn
from bench.wall.worker import Timing

REFERENCE_EVERY = 10
"""Turns of a round to which the reference takes one."""
INTERVAL_ALPHA = 0.025
"""Chance beyond each end of the interval that launches are counted for."""
REFERENCE_LOST = "reference"
"""What stops a cell whose reference failed, as `latency_stop` says it."""
LONGEST_TURN = 2
"""Timed inferences of a turn at most, as a multiple of the plan's; of more inputs, a launch has more rounds."""

INFERRING = 0.75
"""Share of a turn's time that its inferences must have for what it took to be theirs."""

Watch = Callable[[], Callable[[int | None], OnGpu]]
"""Begins to watch the GPU that a turn is on, and ends that, as bench.measure.gpu.Gpu.watch does."""
Meter = Callable[[], Callable[[int | None], float | None]]
"""Begins to meter the processor that a turn is on, and ends that, as bench.measure.rapl.Packages.watch does."""


class TimedGuest(Protocol):
    """What a window needs of a running guest: bench.wall.worker.Worker has it."""

    last_inference_ms: float | None

    def time(self, n: int, warmup: int = 0) -> Timing:
        """Time `n` inferences after `warmup` untimed ones.  Raises CellProblem."""


class Inputs(Protocol):
    """What the cells of a window are to infer while they are timed, each of its inputs once."""

    def left(self, names: Collection[str]) -> int:
        """Inputs that one of these cells has still to infer: the one that has most."""

    def prepare(self, names: Collection[str], n: int) -> None:
        """Have the next `n` of each of these cells ready."""

    def infer(self, name: str, n: int, warmup: int) -> Timing:
        """Time `n` inferences of a cell after `warmup` untimed ones: all of its next inputs, as far as there are any.

        Raises CellProblem.
        """

    def digest(self) -> None:
        """Do what is to be done with the outputs of the turn that is over."""


class Window:
    """One time window: the cells that share it and what came of it.

    `launches` holds how many launches a cell gets: those of the first stage until `run` has fixed it.
    """

    def __init__(
        self,
        number: int,
        launch: Callable[[str], TimedGuest],
        reference_of: Mapping[str, str],
        plan: Latency,
        cpus: Sequence[int],
        seed: int,
        cpu_due: Mapping[str, float] | None = None,
        keep: Callable[[Sequence[Turn]], None] | None = None,
        watches: Mapping[str, Watch] | None = None,
        inputs: Inputs | None = None,
        meters: Mapping[str, Meter] | None = None,
    ) -> None:
        """Start with no turn taken and no number of launches fixed.

        `reference_of` maps every cell of the window to its reference, which is among them.  `launch` ends the guest
        of a cell, where one runs, and starts a new one, ready to be timed; it raises CellProblem.  `cpu_due` is as in
        `Turn`, for those cells that have it.  `keep` is given the turns of each round, also of one that is cut short.
        `watches` has a watch for those cells whose GPU tells of itself, and `meters` a meter for those whose processor
        tells what it takes.  `inputs` are dealt out to the rounds; without any, every inference is of what `launch`
        left in its guest.
        """
        self.number = number
        self.plan = plan
        self.turns: dict[str, list[Turn]] = {name: [] for name in reference_of}
        self.problems: dict[str, CellProblem] = {}
        self.launches = dict.fromkeys(reference_of, plan.min_launches)
        self.stop: dict[str, str] = {}
        self._launch = launch
        self._reference_of = reference_of
        self._cpus = cpus
        self._cpu_due = cpu_due or {}
        self._keep = keep
        self._watches = watches or {}
        self._meters = meters or {}
        self._inputs = inputs
        self._rounds_taken = 0
        self._seconds = dict.fromkeys(reference_of, 0.0)
        self._starting = dict.fromkeys(reference_of, 0.0)
        self._shuffle = random.Random(seed + number)  # noqa: S311 - an order of turns that can be had again

    def run(self, on_turn: Callable[[int, int, str], None]) -> None:
        """Launch every cell `min_launches` times, fix how often each is launched in all, and launch the rest.

        Inputs that the first stage left are shared out to the rounds of the rest; where no launch is left, the last one
        goes on with them.  Cells that were launched less often than others may still have some in the end.
        A guest that fails costs its own cell alone; `problems` says why.  That of a reference also ends the cells that
        are compared with it, after its round: no ratio is left to take.  `on_turn(launch, round, cell id)` is called
        before each turn; rounds are counted from 0 in each launch.  Everything measured so far is in `turns` also when
        this is interrupted.
        """
        started, guests = time.monotonic(), {}
        for launch in range(self.plan.min_launches):
            guests = self._start(launch)
            self._rounds(guests, launch, self.plan.rounds, on_turn)
        self._fix(self.plan.budget_s - (time.monotonic() - started))
        further = range(self.plan.min_launches, max(self.launches.values()))
        left = self._to_deal({name: guests[name] for name in self._taking_part(guests)})
        longest = LONGEST_TURN * self.plan.samples + self.plan.warmup
        rest = -(-left // (longest * max(1, len(further))))
        if not further:
            self._rounds(guests, self.plan.min_launches - 1, rest, on_turn, rest)
        for launch in further:
            rounds = max(self.plan.rounds, rest)
            self._rounds(self._start(launch), launch, rounds, on_turn, rounds * (further.stop - launch))

    def summary(self, name: str) -> Summary:
        """Summary of a cell of this window; it must have taken a turn."""
        return summarise(self.turns[name], self.turns.get(self._reference_of[name], []))

    def _left(self, names: Collection[str]) -> int:
        return self._inputs.left(names) if self._inputs is not None and names else 0

    def _to_deal(self, guests: Mapping[str, TimedGuest]) -> int:
        """Inputs to be dealt out to rounds: those left to cells with whole turns; a slow one takes what it can."""
        return self._left([name for name, guest in guests.items() if not self._is_slow(name, guest)])

    def _rounds(
        self,
        guests: Mapping[str, TimedGuest],
        launch: int,
        rounds: int,
        on_turn: Callable[[int, int, str], None],
        to_come: int = 0,
    ) -> None:
        """Rounds of a launch, the first of `to_come` that share what inputs are left; 0: as many as the plan has."""
        for place in range(rounds):
            taking_part = {name: guests[name] for name in self._taking_part(guests)}
            dealt = -(-self._to_deal(taking_part) // (to_come - place)) if to_come else 0
            share = min(max(dealt - self.plan.warmup, self.plan.samples), LONGEST_TURN * self.plan.samples)
            self._round(launch, place, taking_part, on_turn, share)
            self._rounds_taken += 1

    def _round(
        self,
        launch: int,
        place: int,
        guests: Mapping[str, TimedGuest],
        on_turn: Callable[[int, int, str], None],
        share: int,
    ) -> None:
        taken: list[Turn] = []
        if self._inputs is not None and guests:
            most = max(sum(self._inferences(name, guest, share)) for name, guest in guests.items())
            self._inputs.prepare(guests.keys(), most)
        try:
            for order, name in enumerate(self._order(list(guests))):
                if name not in self.problems:
                    on_turn(launch, place, name)
                    taken += self._turn(name, guests[name], launch, order, share)
                    if self._inputs is not None:
                        self._inputs.digest()
        finally:
            if taken and self._keep is not None:
                self._keep(taken)

    def _start(self, launch: int) -> dict[str, TimedGuest]:
        guests: dict[str, TimedGuest] = {}
        names = sorted(self._taking_part(name for name in self.turns if launch < self.launches[name]))
        self._shuffle.shuffle(names)
        for name in names:
            if not self._taking_part([name]):
                continue  # its reference did not start
            started = time.monotonic()
            try:
                guests[name] = self._launch(name)
            except CellProblem as problem:
                self.problems[name] = problem
            self._starting[name] += time.monotonic() - started
        return guests

    def _order(self, names: Sequence[str]) -> list[str]:
        """A round's turns: cells at random, and the references once at random in each stretch of it."""
        references = [name for name in names if self._is_reference(name)]
        cells = [name for name in names if not self._is_reference(name)]
        self._shuffle.shuffle(cells)
        stretches = max(1, round(len(names) / REFERENCE_EVERY))
        turns: list[str] = []
        for number in range(stretches):
            stretch = [*references, *cells[number::stretches]]
            self._shuffle.shuffle(stretch)
            turns += stretch
        return turns

    def _lives(self, name: str) -> bool:
        """Whether neither a cell nor what it is compared with has failed."""
        return not self.problems.keys() & {name, self._reference_of[name]}

    def _taking_part(self, names: Iterable[str]) -> list[str]:
        """Those of some cells that go on, noting of which others a failed reference is what stops them."""
        going_on = []
        for name in names:
            if self._lives(name):
                going_on.append(name)
            elif name not in self.problems:
                self.stop[name] = REFERENCE_LOST
        return going_on

    def _is_reference(self, name: str) -> bool:
        return self._reference_of[name] == name

    def _expected_ms(self, name: str, guest: TimedGuest) -> float:
        turns = self.turns[name]
        return float(np.median(turns[-1].samples_ms)) if turns else guest.last_inference_ms or 0.0

    def _is_slow(self, name: str, guest: TimedGuest) -> bool:
        """Whether a turn as the plan has it would take a cell too long."""
        planned = self.plan.samples + self.plan.warmup
        return self._expected_ms(name, guest) * planned > self.plan.turn_s * 1e3

    def _inferences(self, name: str, guest: TimedGuest, share: int) -> tuple[int, int]:
        """How many timed and untimed inferences a turn has: `share` and the plan's, or fewer of a slow cell."""
        if not self._is_slow(name, guest):
            return share, self.plan.warmup
        warmup = min(self.plan.warmup, 1)
        return max(1, int(self.plan.turn_s * 1e3 / self._expected_ms(name, guest)) - warmup), warmup

    def _turn(self, name: str, guest: TimedGuest, launch: int, order: int, share: int) -> list[Turn]:
        """Let a cell take its turn, of `share` inferences unless it is slow; nothing where its guest fails."""
        timed, untimed = self._inferences(name, guest, share)
        take: Callable[[int, int], Timing] = guest.time if self._inputs is None else partial(self._inputs.infer, name)
        watch = self._watches.get(name)
        meter = self._meters.get(name)
        end = None if watch is None else watch()
        metered = None if meter is None else meter()
        started, before = time.monotonic(), _cpu_times(self._cpus)
        try:
            timing = take(timed, untimed)
        except CellProblem as problem:
            self.problems[name] = problem
            return []
        after = _cpu_times(self._cpus)
        seconds = time.monotonic() - started
        self._seconds[name] += seconds
        number = _inferences_of(timing, untimed, seconds)
        total = after[0] - before[0]
        turn = Turn(
            name,
            self.number,
            launch,
            self._rounds_taken,
            order,
            tuple(float(sample) for sample in timing.samples_ms),
            timing.cpu_s / timing.wall_s if timing.wall_s else 0.0,
            (after[1] - before[1]) / total if total else 0.0,
            self._cpu_due.get(name),
            None if end is None else end(number),
            None if metered is None else metered(number),
        )
        self.turns[name].append(turn)
        return [turn]

    def _fix(self, left: float) -> None:
        """Fix how many launches each cell gets, of which `left` seconds must pay for those still to come.

        A reference is launched as often as the cell that needs it longest.
        """
        alive = self._taking_part(self.turns)
        needed = {name: self._needed(name) for name in alive if not self._is_reference(name)}
        wanted = {name: int(min(number, self.plan.max_launches)) for name, number in needed.items()}
        fit = self._fit(wanted, left)
        for name, number in wanted.items():
            self.launches[name] = min(number, fit)
            capped = "launches" if number <= fit else "budget"
            self.stop[name] = "interval" if needed[name] <= self.launches[name] else capped
        for reference in filter(self._is_reference, alive):
            longest = max(
                (name for name in wanted if self._reference_of[name] == reference),
                key=lambda name: self.launches[name],
                default=None,
            )
            self.launches[reference] = self.launches[longest or reference]
            self.stop[reference] = "interval" if longest is None else self.stop[longest]

    def _needed(self, name: str) -> float:
        """Launches that an interval of the plan's half-width takes, judged by the first ones; infinite where unknown.

        Stein 1945: fixed by their variance alone, whatever their mean, the interval keeps its level.  Launches that
        were lost to contamination will be lost at the same rate.
        """
        reference = self._reference_of[name]
        compared = compare(self.turns[name], self.turns[reference])
        if compared.disturbed:
            return math.inf
        needed = pairs_needed(mean(compared.logs), self.plan.half_width, INTERVAL_ALPHA)
        return math.ceil(needed * self.plan.min_launches / len(compared.logs))

    def _fit(self, wanted: Mapping[str, int], left: float) -> int:
        """Launches in all, of cells that want as many, for which `left` seconds suffice at the cost of the first.

        Inputs that are left are inferred anyway, however many launches share them: those cost their start.
        """
        first = self.plan.min_launches
        for launch in range(first, self.plan.max_launches):
            cells = {name for name, number in wanted.items() if number > launch}
            taking_part = cells | {self._reference_of[name] for name in cells}
            dealt = (launch - first) * self.plan.rounds * (self.plan.samples + self.plan.warmup)
            paid = {name for name in taking_part if self._left([name]) > dealt}
            left -= sum(self._starting[name] for name in taking_part) / first
            left -= sum(self._seconds[name] for name in taking_part - paid) / first
            if left < 0 and cells:
                return launch
        return self.plan.max_launches


def _inferences_of(timing: Timing, untimed: int, seconds: float) -> int | None:
    """How many inferences took what a turn of `seconds` took; None where they took less than most of it.

    A turn behind a launch may begin with more than inferences: on a GPU TorchScript compiles kernels for a second or
    two in its first ones, and what the card takes meanwhile is no inference's.
    """
    number = len(timing.samples_ms) + untimed
    return number if number * float(np.median(timing.samples_ms)) / 1e3 >= INFERRING * seconds else None


def _cpu_times(cpus: Iterable[int]) -> tuple[float, float]:
    """Total and stolen CPU seconds of the given CPUs since boot (steal is 0 where the system has none)."""
    times = psutil.cpu_times(percpu=True)
    chosen = [times[cpu] for cpu in cpus if cpu < len(times)]
    return sum(sum(entry) for entry in chosen), sum(getattr(entry, "steal", 0.0) for entry in chosen)


def windows(references: Mapping[str, str], *memories: tuple[Mapping[str, int], int]) -> list[list[str]]:
    """Split cells into time windows whose guests fit into memory together with their references.

    `references` maps each cell to its own, in the order wanted.  `memories` are those that guests fill, the machine's
    and a GPU's: the bytes that each cell's guest needs there, and how many there are.  A cell that is too large still
    gets a window of its own.
    """
    result: list[list[str]] = []
    current: list[str] = []
    for name, reference in references.items():
        if reference == name:
            continue
        candidate = [*current, name]
        members = set(candidate) | {references[member] for member in candidate}
        if current and any(sum(held.get(one, 0) for one in members) > there for held, there in memories):
            result.append(current)
            candidate = [name]
        current = candidate
    if current:
        result.append(current)
    with_references = [list(dict.fromkeys([references[name] for name in group] + group)) for group in result]
    covered = {name for group in with_references for name in group}
    alone = [name for name in references if name not in covered]
    return with_references + ([alone] if alone else [])

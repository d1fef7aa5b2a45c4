"""Pairs of fresh guests that alternate inference by inference: how two sides are timed against each other.

Both guests of a pair are resident together and take turns in random order, so that whatever the machine does meets both
within milliseconds (Laaber et al. 2019).  What a process keeps for life is mostly which physical pages it was dealt;
on huge pages both sides are dealt the same hand, which a kernel gives without privilege.  Addresses stay randomised:
without that each side keeps one layout for good, and what it makes of the time is no longer noise, which pairs average
out, but a bias (Mytkowicz et al. 2009).  They are drawn again within a pair as well, as Curtsinger and Berger (2013) do
in a running program: loading the model once more is much cheaper than starting a process, and its layout is as new
(docs/method.md has figures).  Several inferences of a pair are one observation: the pair is what is repeated (Kalibera
and Jones 2013).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.environments.locked import Env
from bench.grid.schema import Deadlines
from bench.reasons import CellProblem
from bench.tasks.task import Tensor
from bench.wall.worker import Loaded, Worker

BASE, CANDIDATE = "base", "candidate"
SIDES = (BASE, CANDIDATE)
WARMUP = 4
INFERENCES_MIN, INFERENCES_MAX = 24, 200
ALTERNATING_S = 3.0
"""A pair alternates for as long at least: after a quick start, most noise is what the machine does within a second."""
LOADS_MOST = 8
"""How often each side of a pair loads its model, at most."""
TURNS_MIN = 8
"""Inferences of each side after each load, at least."""
LATENCY = "latency"
_SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")
# malloc asks for huge pages, and keeps what is freed: some runtimes map and unmap tens of MB in each inference.
_HUGE = ":".join(
    ("glibc.malloc.hugetlb=1", f"glibc.malloc.mmap_threshold={1 << 32}", f"glibc.malloc.trim_threshold={1 << 32}")
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what is started, and what it loads."""

    label: str
    env: Env
    adapter: Path
    spec: Mapping[str, Any]
    """What the adapter's `load` is given."""
    variables: Mapping[str, str]
    """The guest's whole environment."""


@dataclass(frozen=True)
class Conditions:
    """What both sides of a pair share.

    `inferences` of each side; None: as many as take as long as starting the two took, or `ALTERNATING_S` where that is
    longer, within `INFERENCES_MIN` and `INFERENCES_MAX`.  As long as the start is within a few per cent of the best
    split between starting anew and repeating where the two vary alike (Kalibera and Jones 2013, 6.2).  Standard errors
    of guests are appended to `log`.
    """

    x: Tensor
    cpus: Sequence[int]
    threads: int
    deadlines: Deadlines
    log: Path
    inferences: int | None = None


@dataclass(frozen=True)
class Launch:
    """A side's process in a pair: what its start took, and what it says of itself at its end."""

    load_ms: float
    first_inference_ms: float
    peak_rss_bytes: int
    huge_bytes: int
    attested: Mapping[str, Any]


@dataclass(frozen=True)
class Turns:
    """A pair's alternating inferences: times in ms, (n,) each, in order; `first` says which side went first."""

    base_ms: NDArray[np.float64]
    candidate_ms: NDArray[np.float64]
    first: tuple[str, ...]
    launches: Mapping[str, Launch]

    def log_ratio(self, metric: str = LATENCY) -> float:
        """The pair's one observation of a metric: log of candidate over base.

        Of latency it is the median over neighbouring inferences, which a drifting machine meets alike.
        """
        if metric == LATENCY:
            return float(np.median(np.log(self.candidate_ms) - np.log(self.base_ms)))
        base, candidate = self.sides(metric)
        return float(np.log(candidate) - np.log(base))

    def sides(self, metric: str = LATENCY) -> tuple[float, float]:
        """What base and candidate had of a metric: of latency the median, in ms."""
        if metric == LATENCY:
            return float(np.median(self.base_ms)), float(np.median(self.candidate_ms))
        base, candidate = (float(getattr(self.launches[name], metric)) for name in SIDES)
        return base, candidate


class SideProblem(CellProblem):
    """A guest of a pair failed; `side` says whose."""

    def __init__(self, side: str, problem: CellProblem) -> None:
        """Keep reason, text and status."""
        super().__init__(problem.reason, problem.text, problem.status)
        self.side = side


def huge_pages_possible() -> bool:
    """Whether this kernel gives a process huge pages that asks for them."""
    try:
        return "[never]" not in _SWITCH.read_text(encoding="ascii")
    except OSError:
        return False


def condition(*, huge: bool) -> dict[str, str]:
    """Variables that put a guest's memory on huge pages, or none."""
    return {"GLIBC_TUNABLES": _HUGE} if huge else {}


def run_pair(sides: Mapping[str, Side], conditions: Conditions, shuffle: random.Random) -> Turns:
    """Start a guest of each side, let them alternate, and end both.

    Which starts first, and which goes first in each turn, is drawn from `shuffle`.  Raises SideProblem where a guest
    fails.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        pair = _Resident(sides, conditions, shuffle)
        pair.start(stack)
        starting = time.monotonic() - started
        each = pair.warm_up()
        number = conditions.inferences
        if number is None:
            number = min(max(int(max(starting, ALTERNATING_S) / each), INFERENCES_MIN), INFERENCES_MAX)
        first, *others = parts(number, pair.loads(number, each))
        pair.alternate(first)
        launches = {name: pair.launch(name) for name in SIDES}
        for more in others:
            pair.move()
            pair.alternate(more)
        for name in SIDES:
            launches[name] = replace(launches[name], attested=pair.attested(name))
    return Turns(np.array(pair.times[BASE]), np.array(pair.times[CANDIDATE]), tuple(pair.first), launches)


def parts(number: int, loads: int) -> list[int]:
    """`number` inferences split evenly over so many loads."""
    return [len(part) for part in np.array_split(np.arange(number), loads)]


class _Resident:
    """The two guests of a pair while they run: `times` in ms by side, and who was `first` in each turn."""

    def __init__(self, sides: Mapping[str, Side], conditions: Conditions, shuffle: random.Random) -> None:
        self.times: dict[str, list[float]] = {name: [] for name in SIDES}
        self.first: list[str] = []
        self._sides = sides
        self._conditions = conditions
        self._deadlines = conditions.deadlines
        self._shuffle = shuffle
        self._guests: dict[str, Worker] = {}
        self._loaded: dict[str, Loaded] = {}

    def start(self, stack: ExitStack) -> None:
        """Start both, load, and infer once; `stack` ends them."""
        for name in self._order():
            with _blamed(name):
                guest = self._guests[name] = stack.enter_context(guest_of(self._sides[name], self._conditions))
                self._loaded[name] = guest.load(self._sides[name].spec, timeout=self._deadlines.load)
                guest.outputs(self._conditions.x, timeout=self._deadlines.infer)

    def warm_up(self) -> float:
        """Some turns that are not kept; returns seconds of one of both sides."""
        times, _ = self._turns(WARMUP)
        return sum(float(np.median(ms)) for ms in times.values()) / 1e3

    def alternate(self, number: int) -> None:
        """So many turns, which are kept."""
        times, first = self._turns(number)
        for name in SIDES:
            self.times[name] += times[name]
        self.first += first

    def loads(self, number: int, each: float) -> int:
        """How often each side is to load for `number` turns of `each` seconds.

        Moving takes half as long as they do, at most; 1 where a side's model is not in its guest's memory.
        """
        if not all(loaded.movable for loaded in self._loaded.values()):
            return 1
        moving = sum(loaded.load_ms for loaded in self._loaded.values()) / 1e3 + (1 + WARMUP) * each
        return max(1, min(LOADS_MOST, number // TURNS_MIN, 1 + int(number * each / 2 / moving)))

    def move(self) -> None:
        """Load both models anew at other addresses, and warm them up."""
        for name in self._order():
            with _blamed(name):
                guest = self._guests[name]
                guest.load(self._sides[name].spec, timeout=self._deadlines.load, elsewhere=True)
                guest.outputs(self._conditions.x, timeout=self._deadlines.infer)
        self.warm_up()

    def launch(self, name: str) -> Launch:
        """What a side's start took and holds, before anything is moved, which costs memory."""
        guest = self._guests[name]
        with _blamed(name):
            stats = guest.stats()
        assert guest.first_inference_ms is not None, "it gave outputs"
        load_ms, first_ms = self._loaded[name].load_ms, guest.first_inference_ms
        return Launch(load_ms, first_ms, stats.peak_rss_bytes, stats.huge_bytes, {})

    def attested(self, name: str) -> Mapping[str, Any]:
        """What a side says at its end that it ran; asking costs time and memory of its own."""
        with _blamed(name):
            return self._guests[name].stats(attest=True, timeout=5 * self._deadlines.infer).attested

    def _turns(self, number: int) -> tuple[dict[str, list[float]], list[str]]:
        times: dict[str, list[float]] = {name: [] for name in SIDES}
        first = []
        for _ in range(number):
            order = self._order()
            first.append(order[0])
            for name in order:
                with _blamed(name):
                    times[name].append(self._guests[name].once(self._deadlines.infer))
        return times, first

    def _order(self) -> list[str]:
        return self._shuffle.sample(SIDES, len(SIDES))


@contextmanager
def _blamed(side: str) -> Iterator[None]:
    try:
        yield
    except CellProblem as problem:
        raise SideProblem(side, problem) from problem


def guest_of(side: Side, conditions: Conditions) -> Worker:
    """A fresh guest of a side, not yet started."""
    return Worker(
        side.env.python,
        side.adapter,
        variables=side.variables,
        threads=conditions.threads,
        cpus=conditions.cpus,
        log_path=conditions.log,
    )

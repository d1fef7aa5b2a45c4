"""Pairs of fresh guests that alternate inference by inference: how two sides are timed against each other.

Both guests of a pair are resident together and take turns in random order, so that whatever the machine does meets both
within milliseconds (Laaber et al. 2019).  What a process keeps for life is mostly which physical pages it was dealt;
on huge pages both sides are dealt the same hand, which a kernel gives without privilege.  Addresses stay randomised:
without that each side keeps one layout for good, and what it makes of the time is no longer noise, which pairs average
out, but a bias (Mytkowicz et al. 2009; docs/method.md has figures).  Several inferences of a pair are one observation:
the pair is what is repeated (Kalibera and Jones 2013).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.environments.locked import Env
from bench.grid.schema import Deadlines
from bench.reasons import CellProblem
from bench.tasks.task import Tensor
from bench.wall.worker import Worker

BASE, CANDIDATE = "base", "candidate"
SIDES = (BASE, CANDIDATE)
WARMUP = 4
INFERENCES_MIN, INFERENCES_MAX = 24, 200
ALTERNATING_S = 3.0
"""A pair alternates for as long at least: after a quick start, most noise is what the machine does within a second."""
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
    deadlines = conditions.deadlines
    started = time.monotonic()
    with ExitStack() as stack:
        guests, loads = {}, {}
        for name in shuffle.sample(SIDES, len(SIDES)):
            with _blamed(name):
                guests[name] = stack.enter_context(guest_of(sides[name], conditions))
                loads[name] = guests[name].load(sides[name].spec, timeout=deadlines.load).load_ms
                guests[name].outputs(conditions.x, timeout=deadlines.infer)
        starting = time.monotonic() - started

        def turns(number: int) -> tuple[dict[str, list[float]], list[str]]:
            times: dict[str, list[float]] = {name: [] for name in SIDES}
            first = []
            for _ in range(number):
                order = shuffle.sample(SIDES, len(SIDES))
                first.append(order[0])
                for name in order:
                    with _blamed(name):
                        times[name].append(guests[name].once(deadlines.infer))
            return times, first

        warm, _ = turns(WARMUP)
        number = conditions.inferences
        if number is None:
            each = sum(float(np.median(times)) for times in warm.values()) / 1e3
            number = min(max(int(max(starting, ALTERNATING_S) / each), INFERENCES_MIN), INFERENCES_MAX)
        times, first = turns(number)
        launches = {}
        for name, guest in guests.items():
            with _blamed(name):
                launches[name] = _launch(guest, loads[name], 5 * deadlines.infer)
    return Turns(np.array(times[BASE]), np.array(times[CANDIDATE]), tuple(first), launches)


def _launch(guest: Worker, load_ms: float, timeout: float) -> Launch:
    before = guest.stats()  # asking what ran costs memory of its own
    attested = guest.stats(attest=True, timeout=timeout).attested
    assert guest.first_inference_ms is not None, "it gave outputs"
    return Launch(load_ms, guest.first_inference_ms, before.peak_rss_bytes, before.huge_bytes, attested)


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

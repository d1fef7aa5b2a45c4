"""Pairs of fresh guests that alternate inference by inference: how two sides are timed against each other.

Both guests of a pair are resident together and take turns in random order, so that whatever the machine does meets both
within milliseconds (Laaber et al. 2019).  What a process keeps for life is mostly which physical pages it was dealt;
on huge pages both sides are dealt the same hand, which a kernel gives without privilege.  Several inferences of a pair
are one observation: the pair is what is repeated (Kalibera and Jones 2013).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.environments.locked import Env
from bench.grid.schema import Deadlines
from bench.tasks.task import Tensor
from bench.wall.worker import Worker

BASE, CANDIDATE = "base", "candidate"
SIDES = (BASE, CANDIDATE)
WARMUP = 4
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
class Turns:
    """A pair's alternating inferences: times in ms, (n,) each, in order; `first` says which side went first."""

    base_ms: NDArray[np.float64]
    candidate_ms: NDArray[np.float64]
    first: tuple[str, ...]
    base_huge_bytes: int
    candidate_huge_bytes: int
    attested: Mapping[str, Mapping[str, Any]]

    @property
    def log_ratio(self) -> float:
        """Median of the log ratios of neighbours, candidate over base: the pair's one observation."""
        return float(np.median(np.log(self.candidate_ms) - np.log(self.base_ms)))


def huge_pages_possible() -> bool:
    """Whether this kernel gives a process huge pages that asks for them."""
    try:
        return "[never]" not in _SWITCH.read_text(encoding="ascii")
    except OSError:
        return False


def condition(*, huge: bool) -> dict[str, str]:
    """Variables that put a guest's memory on huge pages, or none."""
    return {"GLIBC_TUNABLES": _HUGE} if huge else {}


def run_pair(
    sides: Mapping[str, Side],
    x: Tensor,
    *,
    inferences: int,
    cpus: Sequence[int],
    threads: int,
    deadlines: Deadlines,
    log: Path,
    shuffle: random.Random,
) -> Turns:
    """Start a guest of each side, let them alternate `inferences` times on `x`, and end both.

    Which starts first, and which goes first in each turn, is drawn from `shuffle`.  Their standard errors are appended
    to `log`.  Raises CellProblem where a guest fails.
    """
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    first = []
    with ExitStack() as stack:
        guests = {}
        for name in shuffle.sample(SIDES, len(SIDES)):
            guests[name] = stack.enter_context(_guest(sides[name], cpus, threads, log))
            guests[name].load(sides[name].spec, timeout=deadlines.load)
            guests[name].outputs(x, timeout=deadlines.infer)
        for _ in range(WARMUP):
            for name in SIDES:
                guests[name].once(deadlines.infer)
        for _ in range(inferences):
            order = shuffle.sample(SIDES, len(SIDES))
            first.append(order[0])
            for name in order:
                times[name].append(guests[name].once(deadlines.infer))
        huge = {name: guests[name].stats().huge_bytes for name in SIDES}
        attested = {name: guests[name].stats(attest=True, timeout=5 * deadlines.infer).attested for name in SIDES}
    return Turns(np.array(times[BASE]), np.array(times[CANDIDATE]), tuple(first), huge[BASE], huge[CANDIDATE], attested)


def _guest(side: Side, cpus: Sequence[int], threads: int, log: Path) -> Worker:
    return Worker(side.env.python, side.adapter, variables=side.variables, threads=threads, cpus=cpus, log_path=log)

"""Windows whose guests only pretend, in noise that is known, to see how often intervals hold the truth.

What is simulated is the clock alone: rounds, launches, stopping, contamination and intervals are the bench's own
(`bench.measure.window.Window`).  As a program it prints the figures of docs/method.md:

    python -m tests.simulated --windows 600
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.grid import matrix
from bench.grid.schema import Latency
from bench.measure.window import Window
from bench.places import MATRICES
from bench.wall.worker import Timing

REFERENCE, CELLS = "ref", ("a", "b", "c", "d")
MS = {"ref": 80.0, "a": 40.0, "b": 70.0, "c": 20.0, "d": 95.0}
TURN, SAMPLE = 0.015, 0.02
"""Standard deviation of the logarithm of a turn, and of a sample in it."""
DISTURBED = 0.03
"""Share of turns that get half a CPU and so take twice as long."""

Draw = Callable[[np.random.Generator, float], float]
"""Log factor that a process keeps for life, of a given standard deviation; its mean need not be zero."""

PROCESSES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda generator, sd: float(generator.normal(0, sd)), 0.0),
    "exponential": (lambda generator, sd: float(generator.exponential(sd)), 1.0),
    "20 % slow": (lambda generator, sd: 2.5 * sd * float(generator.random() < 0.2), 0.5),
}
"""How processes differ, with the mean in standard deviations."""


@dataclass(frozen=True)
class Noise:
    """How much processes differ: `kind` is one of `PROCESSES`, the rest standard deviations of their logarithms.

    `drift` is that of a common course of the machine that meets the cells and not the reference, with an
    autocorrelation of 0.4 from launch to launch.
    """

    kind: str
    reference: float
    cell: float
    drift: float = 0.0

    def true_ratio(self, name: str) -> float:
        """Reference time over cell time, as the geometric mean over processes."""
        return MS[REFERENCE] / MS[name] * math.exp(PROCESSES[self.kind][1] * (self.reference - self.cell))


ALIKE = {kind: Noise(kind, 0.03, 0.03) for kind in PROCESSES}
RECORDED = {kind: Noise(kind, 0.075, 0.016) for kind in PROCESSES}
"""Nearly all of the noise is the reference's, as in the recorded run coco128-640-cpu."""
DRIFTING = Noise("normal", 0.02, 0.02, drift=0.03)


class _Guests:
    """Guests of one window."""

    def __init__(self, noise: Noise, generator: np.random.Generator) -> None:
        self.noise, self.generator = noise, generator
        self.drift = float(generator.normal(0, noise.drift))

    def launch(self, name: str) -> _Guest:
        if name == REFERENCE:
            self.drift = 0.4 * self.drift + math.sqrt(1 - 0.4**2) * float(self.generator.normal(0, self.noise.drift))
        sd = self.noise.reference if name == REFERENCE else self.noise.cell
        return _Guest(self, name, PROCESSES[self.noise.kind][0](self.generator, sd))


class _Guest:
    """One process."""

    def __init__(self, guests: _Guests, name: str, log_factor: float) -> None:
        self._guests, self._name, self._log_factor = guests, name, log_factor
        self.last_inference_ms: float | None = MS[name]

    def time(self, n: int, warmup: int = 0) -> Timing:
        del warmup
        generator = self._guests.generator
        log = self._log_factor + generator.normal(0, TURN) + generator.normal(0, SAMPLE, n)
        if self._name != REFERENCE:
            log = log + self._guests.drift
        share = 0.5 if generator.random() < DISTURBED else 1.0
        samples = MS[self._name] * np.exp(log) / share
        wall = float(samples.sum()) / 1e3
        return Timing(samples, wall * share, wall, 1)


@dataclass(frozen=True)
class Coverage:
    """Share of intervals that hold the truth, mean of their relative half-widths, and of launches."""

    held: float
    half_width: float
    launches: float


def coverage(noise: Noise, plan: Latency, windows: int, seed: int = 1) -> Coverage:
    """Run so many windows of a reference and four cells, and look at their intervals."""
    plan = plan.model_copy(update={"samples": 3, "budget_s": 1e9})
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(windows):
        guests = _Guests(noise, generator)
        references = dict.fromkeys((REFERENCE, *CELLS), REFERENCE)
        seed_of_order, due = int(generator.integers(1 << 30)), dict.fromkeys(MS, 1.0)
        window = Window(0, guests.launch, references, plan, [], seed_of_order, due)
        window.run(lambda *_: None)
        for name in CELLS:
            summary = window.summary(name)
            assert summary.ratio_low is not None, "three launches in a hundred turns are never all disturbed"
            assert summary.ratio_high is not None, "likewise"
            held = summary.ratio_low <= noise.true_ratio(name) <= summary.ratio_high
            found.append((held, math.log(summary.ratio_high / summary.ratio_low) / 2, len(window.turns[name])))
    held, half, turns = np.mean(np.array(found, np.float64), axis=0)
    return Coverage(float(held), float(half), float(turns) / plan.rounds)


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--windows", type=int, default=600)
    windows = parser.parse_args().windows
    cases = [*ALIKE.items(), *((f"{kind}, the reference's", noise) for kind, noise in RECORDED.items())]
    matrices = matrix.load(MATRICES)
    names = ("all", "guide", "nightly", "full")
    print("| processes |" + "".join(f" {name} |" for name in names))
    print("|---|" + "---|" * len(names))
    for case, noise in [*cases, ("a drifting machine", DRIFTING)]:
        found = [coverage(noise, matrices.sweep(name).latency, windows) for name in names]
        print(f"| {case} |" + "".join(f" {each.held:.3f} ({each.launches:.1f}) |" for each in found), flush=True)


if __name__ == "__main__":
    main()

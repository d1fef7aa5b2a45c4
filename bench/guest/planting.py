"""A slowdown of a known size, planted into a guest: what a gate must find before it is believed.

Every inference is followed by real work, inside what is timed, until its time has grown by the share that was asked
for: inference by inference, by the guest's own clocks, so that the dose is right on any machine and follows an
inference that was slow.  Shares are of the processor's time, which what else runs there does not stretch; what is
reported is the time on the wall of both.  So it is for inference on processors, not on devices beside them.

The work is products of matrices over a buffer as large as the network's input: it takes cycles, caches and memory as
inference does.  A sleep would not: it gives the processor away, and whatever else runs there would hide or double the
dose.  Nor is a share of the inferences done twice: a pair's observation is the median over neighbours, which a few slow
ones do not move at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

BLOCK = 64
"""Side of the matrices that one step multiplies: some microseconds, so that a dose of 1 % consists of several."""


class Planted:
    """Makes inferences slower by a share of their time: 0.03 is 3 %."""

    def __init__(self, share: float, x: np.ndarray) -> None:
        """`x` is the network's input (B, 3, S, S), over a copy of which the work goes.  ValueError unless share > 0."""
        if not share > 0:
            raise ValueError(f"a planted slowdown is a share above 0, not {share}")
        self._share = share
        blocks = -(-x.size // BLOCK**2)
        self._blocks = np.resize(x.astype(np.float32), (blocks, BLOCK, BLOCK))
        self._product = np.empty((BLOCK, BLOCK), np.float32)
        self._place = 0
        self._owed_ns = 0.0
        self._step_ns = 0.0
        self._step()  # the first of a process also starts what multiplies matrices, and would pass for a long step

    def time(self, infer: Callable[[], object]) -> int:
        """Nanoseconds of an inference and of the work that follows it."""
        wall, cpu = time.perf_counter_ns(), time.process_time_ns()
        infer()
        elapsed, used = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
        started = time.perf_counter_ns()
        self.work(min(elapsed, used))  # several threads use more than the wall shows
        return elapsed + time.perf_counter_ns() - started

    def work(self, used_ns: int) -> int:
        """Work for the share of an inference that used `used_ns` of the processor; returns what it used itself, ns.

        It ends with the step whose end comes closest to the dose, judged by the mean step of the work before; what it
        was too short or too long by is made up for by the next.
        """
        self._owed_ns += self._share * used_ns
        started, spent, steps = time.thread_time_ns(), 0, 0
        while spent + self._step_ns / 2 < self._owed_ns:
            self._step()
            spent, steps = time.thread_time_ns() - started, steps + 1
        self._owed_ns -= spent
        if steps:
            self._step_ns = spent / steps
        return spent

    def _step(self) -> None:
        block = self._blocks[self._place]
        self._place = (self._place + 1) % len(self._blocks)
        np.matmul(block, self._blocks[self._place], out=self._product)

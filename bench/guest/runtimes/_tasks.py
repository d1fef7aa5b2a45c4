"""Threads of this process as the kernel lists them, for runtimes that only repeat how many they were asked for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

_FOLDER = Path("/proc/self/task")
_IDLE_SHARE = 0.05
"""Of the busiest thread's time: one with less did other things than compute."""


def tasks() -> int:
    """How many there are; 0 where the kernel does not list them."""
    return len(list(_FOLDER.iterdir())) if _FOLDER.exists() else 0


def started(before: int, after: int) -> int | None:
    """How many were started between two countings; None where the kernel does not list them."""
    return after - before if before and after else None


def worked(run: Callable[[], object]) -> int | None:
    """How many threads computed while `run` ran; None where the kernel does not list them.

    A library may start threads that it does not use for what it was asked for.
    """
    before = _times()
    run()
    spent = [after - before.get(thread, 0.0) for thread, after in _times().items()]
    return sum(time > _IDLE_SHARE * max(spent) for time in spent) if spent else None


def _times() -> dict[int, float]:
    """Seconds of processor that each thread has had."""
    found = {}
    for thread in (int(entry.name) for entry in _FOLDER.iterdir()) if _FOLDER.exists() else ():
        with contextlib.suppress(OSError):  # it has ended
            # A thread's clock by its number: clock_getcpuclockid(3), and MAKE_THREAD_CPUCLOCK in Linux's sources.
            found[thread] = time.clock_gettime(~thread << 3 | 6)
    return found

"""Times of a guest's inferences on its GPU alone, without the copies from and to the host: a second figure.

It is asked of every process that was timed, once it has been, and stands beside the time that decides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.grid.matrix import Cell
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem
from bench.stats.launches import Launch
from bench.wall.worker import Worker

SAMPLES, WARMUP = 20, 5
"""Inferences that are timed so, and those before them that are not."""
GRAPHS = {"device_ms": False, "device_graph_ms": True}
"""Columns of a launch, and whether what they tell is replayed as a captured CUDA graph."""


def device_times(workshop: Workshop, cell: Cell, guest: Worker, before: Sequence[Launch]) -> dict[str, float | None]:
    """Medians of a guest's inferences on the device, ms, by column; None where its runtime does not tell.

    They decide nothing, so a cell keeps its times where one fails: why is said once, and what the last of the launches
    `before` could not tell is not asked again.
    """
    found: dict[str, float | None] = dict.fromkeys(GRAPHS)
    try:
        for column, graph in GRAPHS.items():
            if before and getattr(before[-1], column) is None:
                continue
            samples = guest.time_on_device(SAMPLES, WARMUP, graph=graph)
            found[column] = None if samples is None else float(np.median(samples))
    except CellProblem as problem:
        workshop.progress.message(f"{cell.id} has no {column}, a second figure that decides nothing: {problem}")
    return found

"""What was timed in a run, cell by cell: from the table `samples` to the contrasts of `bench/stats/contrast.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, isnan

import numpy as np
import pandas as pd

from bench.stats.contrast import LAUNCHES_MIN, Reading, Readings, Round, against_all
from bench.store.reading import Run

CONFIDENCE = 0.95

Timings = Mapping[str, Readings]
"""Readings of a run's timed cells by cell id."""


def timings(samples: pd.DataFrame) -> Timings:
    """Readings from the table `samples` of one run."""
    keys = ["cell_id", "window", "launch", "round", "order"]
    groups = samples.groupby(keys, observed=True, sort=True)
    medians, disturbed = np.log(groups["latency_ms"].median()), groups["contaminated"].any()
    found: dict[str, dict[Round, list[Reading]]] = {}
    for (cell, window, launch, number, order), log_ms, bad in zip(medians.index, medians, disturbed, strict=True):
        reading = Reading(int(order), float(log_ms), not bad)
        found.setdefault(str(cell), {}).setdefault((int(window), int(launch), int(number)), []).append(reading)
    return {cell: Readings({key: tuple(turns) for key, turns in rounds.items()}) for cell, rounds in found.items()}


@dataclass(frozen=True)
class Own:
    """How well the times of a run's cells are known apart from the reference's: a share, ±, of 95 % intervals.

    `cells` holds it by cell id, references too; a cell is not there where too few others shared its launches.
    """

    cells: Mapping[str, float]

    def ends(self, cell_id: str, ratio: float | None) -> tuple[float | None, float | None]:
        """A cell's own interval around its ratio to the reference; None for both where it has none."""
        error = self.cells.get(cell_id)
        return (None, None) if error is None or ratio is None else (ratio / (1 + error), ratio * (1 + error))


def own(run: Run, timed: Timings) -> Own:
    """Each cell against the geometric mean of the others that were timed in its rounds, PyTorch FP32 left out.

    PyTorch FP32 itself is held against the same cells: what it is known to is then said once, not beside every cell.
    """
    references = {cell.cell_id for cell in run.cells if cell.is_reference}
    measured = {cell.cell_id for cell in run.measured}
    yardsticks = {name: timed[name] for name in timed if name in measured - references}
    return Own({name: error for name in timed if (error := _own(name, timed[name], yardsticks)) is not None})


def _own(name: str, readings: Readings, yardsticks: Timings) -> float | None:
    found = against_all(readings, _others(name, yardsticks))
    if found is None or found.repeats < LAUNCHES_MIN or isnan(found.error):
        return None
    return exp(found.half(CONFIDENCE)) - 1


def _others(name: str, timed: Timings) -> Iterable[Readings]:
    return (readings for other, readings in timed.items() if other != name)

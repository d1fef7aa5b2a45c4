"""What was timed in a run, cell by cell: from the table `samples` to the contrasts of `bench/stats/contrast.py`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, isnan

import numpy as np
import pandas as pd

from bench.stats.contrast import LAUNCHES_MIN, Reading, Readings, Round, against_all
from bench.store.reading import Run, StoredCell

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
    """How well the time of each cell of a run is known, apart from that of the others.

    `cells` holds it by cell id, references too: the share, up and down, of a 95 % interval.  A cell is not there where
    too few others shared its launches.
    """

    cells: Mapping[str, float]

    def ends(self, cell: StoredCell) -> tuple[float | None, float | None]:
        """Ends of the interval that stands beside a cell's ratio to its reference.

        Its own where the reference's error is known apart, None for both where it then has none; else the stored one,
        which holds the errors of both.
        """
        if cell.reference_id not in self.cells:
            return cell.latency_ratio_low, cell.latency_ratio_high
        error, ratio = self.cells.get(cell.cell_id), cell.latency_ratio
        return (None, None) if error is None or ratio is None else (ratio / (1 + error), ratio * (1 + error))


def own(run: Run, timed: Timings) -> Own:
    """Each cell against the geometric mean of the others that were timed in its rounds, PyTorch FP32 left out.

    PyTorch FP32 itself is held against the same cells: what it is known to is then said once, not beside every cell.
    """
    references = {cell.cell_id for cell in run.cells if cell.is_reference}
    yardsticks = {
        cell.cell_id: timed[cell.cell_id] for cell in run.measured if cell.cell_id in timed.keys() - references
    }
    found = {name: error for name in timed if (error := _own(name, timed[name], yardsticks)) is not None}
    # A reference's error is told apart where what is compared with it has intervals without it.
    apart = {cell.reference_id for cell in run.measured if cell.cell_id in found and cell.cell_id not in references}
    return Own({name: error for name, error in found.items() if name not in references or name in apart})


def _own(name: str, readings: Readings, yardsticks: Timings) -> float | None:
    found = against_all(readings, _others(name, yardsticks))
    if found is None or found.repeats < LAUNCHES_MIN or isnan(found.error):
        return None
    return exp(found.half(CONFIDENCE)) - 1


def _others(name: str, timed: Timings) -> Iterable[Readings]:
    return (readings for other, readings in timed.items() if other != name)

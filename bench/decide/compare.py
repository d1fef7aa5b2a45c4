"""Two cells of one run, figure by figure.

Times are compared over the rounds that both took part in, accuracy over the images that both were evaluated on; what is
exact is set against each other as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.decide.claims import tables as judged
from bench.decide.claims.estimates import time_ratio
from bench.grid import matrix
from bench.places import MATRICES
from bench.reasons import UsageError
from bench.stats import Interval
from bench.store import metrics
from bench.store.tables import read_table
from bench.tasks.registry import TASKS

TIME = "time"
_TIMES = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_ratio")


@dataclass(frozen=True)
class Comparison:
    """A figure of `one` cell and the `other`.

    `ratio` is one over the other with its 95 % interval, where the figure is above zero by nature; `difference` one
    minus the other.  Intervals are None where nothing was repeated.  `direction` says which way is better.
    """

    metric: str
    one: float | None
    other: float | None
    difference: Interval | None
    ratio: Interval | None
    unit: str
    direction: str


def compare(directory: Path, one: str, other: str) -> list[Comparison]:
    """Every figure that both cells of a run have, and their times against each other as `time`.

    Cells are named by `cell_id`, or by the part after the slash.  Raises UsageError for a cell that is not in the run,
    StoreError for a table that cannot be read.
    """
    cells = read_table(directory, "cells").set_index("cell_id", drop=False)
    first, second = (_named(cells, name, directory) for name in (one, other))
    figures = metrics.read(directory)
    sides = [figures[figures.cell_id == name].set_index("metric") for name in (first, second)]
    found = [_time(directory, first, second)]
    for name in sides[0].index:
        if name in sides[1].index and name not in _TIMES:
            mine, theirs = (float(side.value[name]) for side in sides)
            unit, direction = str(sides[0].unit[name]), str(sides[0].direction[name])
            found.append(_exact(str(name), mine, theirs, unit, direction))
    accuracy = _accuracy(directory, first, second, cells)
    if accuracy is not None:
        found = [one for one in found if one.metric != accuracy.metric]
        found.insert(1, accuracy)
    return found


def _named(cells: pd.DataFrame, name: str, directory: Path) -> str:
    matching = [cell for cell in cells.index if name in (cell, cell.partition("/")[2])]
    if len(matching) != 1:
        known = ", ".join(cells.index)
        raise UsageError(
            f"{directory.name} has {'several cells' if matching else 'no cell'} {name!r}; its cells: {known}"
        )
    return str(matching[0])


def _time(directory: Path, one: str, other: str) -> Comparison:
    """Time per image of one over the other's, from the rounds they shared."""
    tables = judged.load([directory], matrix.load(MATRICES))
    rows = {row.cell_id: row for row in tables.rows}
    mine, theirs = (rows[name] for name in (one, other))
    found = time_ratio(tables, mine.run_id, mine, theirs)
    own, others = (None if pd.isna(row.latency_p50_ms) else row.latency_p50_ms / row.batch for row in (mine, theirs))
    ratio = None
    if found is not None:
        scale = theirs.batch / mine.batch
        ends = (None if end is None else end * scale for end in (found.low, found.high))
        ratio = Interval(found.value * scale, *ends)
    return Comparison(TIME, own, others, None, ratio, "ms per image", "lower")


def _exact(name: str, mine: float, theirs: float, unit: str, direction: str) -> Comparison:
    ratio = mine / theirs if theirs > 0 and mine > 0 and math.isfinite(mine / theirs) else None
    return Comparison(
        name,
        mine,
        theirs,
        Interval(mine - theirs, None, None),
        None if ratio is None else Interval(ratio, None, None),
        unit,
        direction,
    )


def _accuracy(directory: Path, one: str, other: str, cells: pd.DataFrame) -> Comparison | None:
    """The task's headline metric with the paired interval of the difference; None where one was not evaluated."""
    task = TASKS["detect"]
    headline = task.metrics[0]
    mine, theirs = (cells[headline.name][name] for name in (one, other))
    if pd.isna(mine) or pd.isna(theirs):
        return None
    rows = read_table(directory, "detections")
    truth = read_table(directory, "ground_truth")
    own, others = (rows[rows.cell_id == name] for name in (one, other))
    if cells.images[one] != cells.images[other]:  # a slow target is evaluated on some of the images
        shared = set(own.image_id) & set(others.image_id)
        own, others, truth = (table[table.image_id.isin(shared)] for table in (own, others, truth))
    difference = task.difference(own, others, truth)
    return Comparison(headline.name, float(mine), float(theirs), difference, None, headline.unit, headline.direction)

"""Two cells of one run, figure by figure.

Times are compared over the rounds that both took part in, accuracy over the images that both were evaluated on; what
was measured once is set against each other as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from bench.decide.timings import timings
from bench.reasons import Status, UsageError, did_you_mean
from bench.stats import Interval
from bench.stats.contrast import against, ratio
from bench.store import metrics
from bench.store.reading import optional, task_of
from bench.store.tables import read_table
from bench.tasks.dataset import evenly_spaced
from bench.tasks.registry import TASKS, recorded
from bench.tasks.task import AnyTask

TIME = "time"
# What `time` stands for.
_TIMES = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms", "latency_ratio")
# Differences themselves: one over another says nothing.
_SIGNED = {task.delta.name for task in TASKS.values()}
_SHOWN = 12


@dataclass(frozen=True)
class Comparison:
    """A figure of `one` cell and the `other`.

    `ratio` is one over the other with its 95 % interval, where both are above zero; `difference` one minus the other.
    Both are None where the two cannot be held against each other; ends are None where nothing was repeated.
    `direction` says which way is better.
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

    Cells are named by `cell_id`, or by as much of it, or of the part after its slash, as no other measured cell has.
    Raises UsageError for a cell that is not in the run, StoreError for a table that cannot be read.
    """
    cells = read_table(directory, "cells")
    figures = metrics.read(directory, cells)
    cells = cells.set_index("cell_id", drop=False)
    states = {str(cell): str(status) for cell, status in cells.status.items()}
    first, second = (named(states, name, directory) for name in (one, other))
    pair = cells.loc[[first, second]]
    sides = [figures[figures.cell_id == name].set_index("metric") for name in (first, second)]
    task = recorded(task_of(directory))
    scores = {metric.name for metric in (*task.metrics, task.delta)}
    # The score on some of the images is no measure of the score on all of them.
    apart = scores if cells.images[first] != cells.images[second] else set()
    found = [time(optional(directory, "samples"), pair)]
    for name, value, unit, direction in sides[0][["value", "unit", "direction"]].itertuples():
        if name not in _TIMES and name in sides[1].index:
            found.append(_exact(Comparison(name, value, sides[1].value[name], None, None, unit, direction)))
    found = [replace(each, difference=None, ratio=None) if each.metric in apart else each for each in found]
    headline = task.metrics[0].name
    return [_paired(each, directory, task, pair) if each.metric == headline else each for each in found]


def named(states: Mapping[str, str], name: str, directory: Path) -> str:
    """The cell meant: by its whole name, or by a beginning that no other has, or no other that was measured.

    `states` holds the status of every cell by its id.
    """
    known = list(states)
    short = [cell.partition("/")[2] for cell in known]
    whole = [cell for cell in known if name in (cell, cell.partition("/")[2])]
    # With a model before it, or without where there is one.
    begun = [cell for cell in known if cell.startswith(f"{name}-") or cell.partition("/")[2].startswith(f"{name}-")]
    found = whole or begun
    measured = [cell for cell in found if states[cell] == Status.MEASURED]
    found = measured if len(measured) == 1 else found
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{directory.name} has several cells {name!r}: {', '.join(found)}; name one of them")
    shown = ", ".join(known[:_SHOWN]) + (f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else "")
    hint = did_you_mean([name], [*short, *known])
    raise UsageError(f"{directory.name} has no cell {name!r}{hint}; it has {shown or 'none'}")


def time(samples: pd.DataFrame, pair: pd.DataFrame) -> Comparison:
    """Time per image of one cell over another's, from the rounds they shared; without a ratio where they shared none.

    `samples` is the table of their run, `pair` the two rows of `cells`.
    """
    names = [str(name) for name in pair.index]
    timed = timings(samples[samples.cell_id.isin(names)])
    own, others = (
        None if pd.isna(ms) else ms / batch for ms, batch in zip(pair.latency_p50_ms, pair.batch, strict=True)
    )
    found = None
    if all(name in timed for name in names):
        found = against(timed[names[0]], timed[names[1]])
    if found is not None:
        per_image = math.log(pair.batch.iloc[1] / pair.batch.iloc[0])
        found = replace(found, value=found.value + per_image)
    return Comparison(TIME, own, others, None, None if found is None else ratio(found), "ms per image", "lower")


def _exact(figure: Comparison) -> Comparison:
    """The figure with its difference, and its ratio where both are above zero."""
    assert figure.one is not None, "only figures that both cells have are compared"
    assert figure.other is not None, "likewise"
    ratio = figure.one / figure.other if figure.one > 0 and figure.other > 0 else None
    return replace(
        figure,
        difference=Interval(figure.one - figure.other, None, None),
        ratio=None if ratio is None or figure.metric in _SIGNED else Interval(ratio, None, None),
    )


def _paired(figure: Comparison, directory: Path, task: AnyTask, pair: pd.DataFrame) -> Comparison:
    """The headline metric with the paired interval of its difference, on the images that both were evaluated on.

    `pair` holds the two rows of `cells`.
    """
    names = [str(name) for name in pair.index]
    rows, truth = read_table(directory, task.table, {"cell_id": names}), read_table(directory, "ground_truth")
    return replace(figure, difference=difference(task, rows, truth, names, int(pair.images.min())), ratio=None)


def difference(task: AnyTask, rows: pd.DataFrame, truth: pd.DataFrame, names: Sequence[str], images: int) -> Interval:
    """The headline metric of the first of two cells minus that of the other, with its 95 % interval.

    `rows` are predictions of both, `truth` is the ground truth of their run, `images` how many both were evaluated on.
    """
    sides = [rows[rows.cell_id == name] for name in names]
    # A cell of a slow target is evaluated on some of the images, always the same (`Dataset.subset`).
    every = tuple(sorted(set(truth[task.resampled])))
    shared = set(evenly_spaced(every, images))
    mine, theirs, truth = (table[table[task.resampled].isin(shared)] for table in (*sides, truth))
    return task.difference(mine, theirs, truth)

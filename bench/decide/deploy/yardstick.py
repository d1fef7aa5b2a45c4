"""Cells of several models, or of several sizes of their input, held against one PyTorch FP32 instead of each its own.

That one is the most accurate of them.  Times are compared directly, by the rounds that both took part in.  Accuracy is
what the cell differs by from its own PyTorch FP32 and that from the yardstick, on the same images; the ends of both
intervals are added, which makes the whole rather too wide than too narrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.decide.compare import difference
from bench.decide.timings import Timings
from bench.stats import Interval
from bench.stats.contrast import against, ratio
from bench.store.reading import Run, StoredCell, optional
from bench.tasks.registry import TASKS, recorded


def yardstick(run: Run, cells: Sequence[StoredCell], timed: Timings) -> StoredCell | None:
    """The most accurate PyTorch FP32 that one of `cells` was compared with; None where none was timed."""
    references = {cell.reference_id for cell in cells}
    known = [one for one in run.measured if one.cell_id in references and one.cell_id in timed]
    return max(known, key=lambda one: one.map50_95 or 0.0, default=None)


def held_against(run: Run, cells: Sequence[StoredCell], base: StoredCell, timed: Timings) -> Mapping[str, StoredCell]:
    """`cells`, which share a batch, as they stand against the yardstick `base`, by cell id.

    One is not among them where it took no turn in a round with the yardstick, or where its accuracy or that of what it
    was compared with is not known.
    """
    behind = {name: _behind(run, name, base) for name in {cell.reference_id for cell in cells}}
    found = {}
    for cell in cells:
        delta, speed = behind[cell.reference_id], _speed(cell, base, timed)
        if delta is not None and speed is not None and cell.map_delta is not None:
            exact = cell.is_own_reference
            low, high = (0.0, 0.0) if exact else (cell.map_delta_low, cell.map_delta_high)
            found[cell.cell_id] = replace(
                cell,
                reference_id=base.cell_id,
                latency_ratio=speed.value,
                latency_ratio_low=speed.low,
                latency_ratio_high=speed.high,
                map_delta=cell.map_delta + delta.value,
                map_delta_low=_sum(low, delta.low),
                map_delta_high=_sum(high, delta.high),
            )
    return found


def _speed(cell: StoredCell, base: StoredCell, timed: Timings) -> Interval | None:
    """Time of the yardstick over the cell's; None where they shared no round."""
    if cell.cell_id == base.cell_id:
        return Interval(1.0, 1.0, 1.0)
    found = against(timed[base.cell_id], timed[cell.cell_id]) if cell.cell_id in timed else None
    return None if found is None else ratio(found)


def _behind(run: Run, reference: str, base: StoredCell) -> Interval | None:
    """mAP50-95 of a PyTorch FP32 minus the yardstick's; without ends where the run keeps no predictions of both.

    None where one of the two was not evaluated, or they were not on as many images.
    """
    if reference == base.cell_id:
        return Interval(0.0, 0.0, 0.0)
    one = next((cell for cell in run.measured if cell.cell_id == reference), None)
    if one is None or one.map50_95 is None or base.map50_95 is None or one.images != base.images:
        return None
    task, names = recorded(run.fact("task") or next(iter(TASKS))), [reference, base.cell_id]
    rows = optional(run.directory, task.table, {"cell_id": names})
    if run.ground_truth.empty or set(rows.cell_id.astype(str)) != set(names):
        return Interval(one.map50_95 - base.map50_95, None, None)
    return difference(task, rows, run.ground_truth, names, int(base.images or 0))


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other

"""Going on with a run that was stopped: what must be as it was, and what is done already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping
from typing import Any

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure import references, unscored
from bench.measure.instruments.instrument import CellInstrument, RunInstrument, left_out
from bench.measure.instruments.registry import INSTRUMENTS, of_runs
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason, Status, StoreError, UsageError
from bench.store.before import Before
from bench.store.facts import SECONDS
from bench.store.writing import RunStore

_SAME = {
    "sweep_settings": "sweep", "task": "task", "model_sha256": "model", "data_sha256": "data set",
    "images": "number of images", "house": "version of the bench or of its matrices",
}  # fmt: skip
"""Facts of a run that decide what its figures mean, and what they are called."""


def require_same(before: Before, facts: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UsageError where what a run was measured with, by scope, is not what it would be gone on with."""
    other = [
        name for key, name in _SAME.items() if before.environment.get(("run", key)) != _text(facts["run"].get(key))
    ]
    there = {key: value for (scope, key), value in before.environment.items() if scope == "machine"}
    if any(of(there) != of(facts["machine"]) for of in (machine.short_name, machine.unnamed)):
        other.append("machine")
    if {key: value for (scope, key), value in before.environment.items() if scope == "core"} != facts["core"]:
        other.append("packages of the bench")
    if other:
        raise UsageError(
            f"the run cannot be gone on with, since these are others than it was made with: {'; '.join(other)}. Give "
            "those, or make a new run, without --resume"
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def outcomes(
    workshop: Workshop, cell: Cell, wanted: Collection[str], joining: Callable[[Cell], Collection[str]]
) -> dict[str, CellProblem | None] | None:
    """What instruments made of a cell before the run was stopped; None where it is to be measured from the start.

    Those of runs, and those that `joining` says to join them, are not among them where a cell was not measured by them
    to the end.  What a reference gave is handed to the workshop.  Raises UsageError where the run left out an
    instrument that is wanted now.
    """
    before = workshop.store.before
    row = before.rows.get(cell.cell_id) if before is not None else None
    if before is None or row is None:
        return None
    status, finished = Status(row["status"]), cell.cell_id in before.finished
    problem = CellProblem(Reason(row["reason_code"]), row["reason"], status) if row["reason_code"] else None
    found: dict[str, CellProblem | None] = {}
    for name, instrument in INSTRUMENTS.items():
        of_cell = isinstance(instrument, CellInstrument)
        if status is not Status.MEASURED:
            found[name] = problem
        elif any(row[column] is not None for column in instrument.columns(workshop.task)) and (of_cell or finished):
            why_not = instrument.left_out_before(row) if isinstance(instrument, RunInstrument) else ""
            found[name] = None if of_cell else problem or (left_out(why_not) if why_not else None)
        elif of_cell and name in wanted and (finished or name not in joining(cell)):
            raise UsageError(
                f"{cell.id} was measured without {name}: give the selection (-k) that the run was made with, or make "
                "a new run, without --resume"
            )
    if cell.is_reference and status is Status.MEASURED:
        workshop.restore_reference(cell, references.kept(workshop.store.directory, cell.cell_id))
    return found


def reopen(workshop: Workshop, cell: Cell, waiting: CellProblem) -> None:
    """Have the row of a cell that was stopped say what it is `waiting` for; with its turns, its times are gone."""
    before = workshop.store.before
    if before is not None and cell.cell_id not in before.finished:
        columns = (column for instrument in of_runs() for column in instrument.columns(workshop.task))
        workshop.store.update(cell, **dict.fromkeys(columns))
        workshop.store.conclude(cell, waiting)


def spent(before: Before | None, now: Mapping[str, float]) -> dict[str, float]:
    """Seconds by step, those until the run was stopped included; of a process that was killed nobody knows them."""
    facts = {} if before is None else before.environment
    earlier = {key: float(value) for (scope, key), value in facts.items() if scope == SECONDS}
    return {step: round(earlier.get(step, 0.0) + now.get(step, 0.0), 1) for step in {**earlier, **now}}


def tidy(store: RunStore) -> None:
    """Delete what is only kept to go on with, once nothing is left to measure.  Raises StoreError."""
    if store.interrupted:
        return
    for name in (unscored.FOLDER, references.FOLDER):
        folder = store.directory / name
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise StoreError(f"cannot delete {folder}: {error}") from error

"""What a cell's predictions are worth, and how far that is from what PyTorch FP32's are on the same images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.grid.matrix import Cell
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason
from bench.stats import Interval
from bench.store.metrics import Figure
from bench.tasks.task import Score


def score(workshop: Workshop, cell: Cell, predictions: Mapping[int, Any]) -> None:
    """Store the metrics of what a cell predicts, by image id, with the predictions and the difference.

    Raises CellProblem where no evaluated image has an object, where the reference has no predictions to compare with
    (the metrics are stored by then), and where the accuracy collapsed.
    """
    task, store = workshop.task, workshop.store
    scored = _scored(workshop, cell, predictions)
    headline = scored.values[task.metrics[0].name]
    if headline is None:
        text = f"None of the {len(predictions)} evaluated images has an object, so there is no mAP."
        raise CellProblem(Reason.NO_OBJECTS, text)
    store.add_predictions(task.table, scored.rows)
    figures = [Figure(one.name, scored.values[one.name], None, None, one.unit, one.direction) for one in task.metrics]
    problem: CellProblem | None = None
    try:
        delta = _difference(workshop, cell, scored)
        one = task.delta
        figures.append(Figure(one.name, delta.value, delta.low, delta.high, one.unit, one.direction))
        problem = _collapse(workshop, headline, delta.value)
    except CellProblem as lacking:
        problem = lacking
    per_class = list(scored.per_class.items())
    # At once: whoever finds one of them after a kill finds all.
    store.add_figures(cell, figures, map_per_class=per_class, images=len(predictions), evaluator=scored.evaluator)
    if problem is not None:
        raise problem


def keep(workshop: Workshop, cell: Cell, predictions: Mapping[int, Any]) -> bool:
    """Store predictions of a part of a cell's images, without metrics, which would be those of another set.

    Returns whether there are any.
    """
    if predictions:
        workshop.store.add_predictions(workshop.task.table, _scored(workshop, cell, predictions).rows)
    return bool(predictions)


def _scored(workshop: Workshop, cell: Cell, predictions: Mapping[int, Any]) -> Score:
    return workshop.task.score(cell.cell_id, workshop.images(cell).only(predictions), predictions)


def _difference(workshop: Workshop, cell: Cell, scored: Score) -> Interval:
    """The difference from the reference, whose predictions these are where the cell is one.

    Raises CellProblem where the reference has none.
    """
    task, reference = workshop.task, workshop.reference(cell)
    mine = scored.rows.to_pandas()
    if cell.is_reference:
        reference.predictions = mine
    if task.resampled not in reference.predictions:
        name = workshop.matrix.reference_of(cell).id
        text = f"The reference {name} was not evaluated, so that there is nothing to hold this against."
        raise CellProblem(Reason.REFERENCE_FAILED, text)
    ids = [image.id for image in workshop.images(cell).images]
    truth = workshop.ground_truth.to_pandas()
    theirs, truth = (table[table[task.resampled].isin(ids)] for table in (reference.predictions, truth))
    return task.difference(mine, theirs, truth)


def _collapse(workshop: Workshop, headline: float, delta: float) -> CellProblem | None:
    """What is wrong with an accuracy that is `delta` from the reference's; None where it keeps enough of that."""
    least, expected = workshop.sweep.accuracy.keep, headline - delta
    if headline >= least * expected:
        return None
    return CellProblem(
        Reason.ACCURACY_COLLAPSED,
        f"{workshop.task.metrics[0].label} is {headline:.3f}; PyTorch FP32 has {expected:.3f} on the same images, and "
        f"the sweep asks for at least {least:.0%} of it.",
    )

"""The task's score over the validation set, and its difference from PyTorch FP32 on the same images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.measure.unscored import Unscored
from bench.reasons import CellProblem, Reason
from bench.store.metrics import Figure, in_cells
from bench.tasks.task import AnyTask, Tensor


class Accuracy(CellInstrument):
    """Decodes what the guest infers on every image and scores it.

    The images are all there are, but a few where the target is slow and only its results are checked.  What was
    predicted is on disk from shard to shard: a run that is stopped and resumed goes on at the image where it was.
    """

    name = "accuracy"
    needs = ("footprint",)
    compares = True

    def columns(self, task: AnyTask) -> tuple[str, ...]:
        """What it fills."""
        return (
            *in_cells(metric.name for metric in task.metrics),
            *in_cells(f"{task.delta.name}{end}" for end in ("", "_low", "_high")),
            *("map_per_class", "images", "evaluator"),
        )

    def measure(self, subject: Subject) -> None:
        """Store the metrics and the predictions behind them.

        Raises CellProblem without labelled objects, or where the accuracy collapsed.
        """
        with subject.workshop.progress.timed(subject.cell.id, self.name):
            directory, task = subject.workshop.store.directory, subject.workshop.task
            with Unscored(directory, subject.cell.cell_id, task, subject.artifact.sha256) as unscored:
                for found in _predictions(subject, unscored.done):
                    unscored.add(found)
            self._measure(subject, unscored.predictions())
            unscored.remove()

    def _measure(self, subject: Subject, predictions: Mapping[int, Any]) -> None:
        workshop, cell = subject.workshop, subject.cell
        task, data = workshop.task, workshop.images(cell)
        ids = [image.id for image in data.images]
        score = task.score(cell.cell_id, data, predictions)
        headline = score.values[task.metrics[0].name]
        if headline is None:
            text = f"None of the {len(ids)} evaluated images has an object, so there is no mAP."
            raise CellProblem(Reason.NO_OBJECTS, text)
        workshop.store.add_predictions(task.table, score.rows)
        mine = score.rows.to_pandas()
        reference = workshop.reference(cell)
        if cell.is_reference:
            reference.predictions = mine
        truth = workshop.ground_truth.to_pandas()
        theirs, truth = (table[table[task.resampled].isin(ids)] for table in (reference.predictions, truth))
        delta = task.difference(mine, theirs, truth)
        figures = [
            Figure(one.name, score.values[one.name], None, None, one.unit, one.direction) for one in task.metrics
        ]
        figures.append(
            Figure(task.delta.name, delta.value, delta.low, delta.high, task.delta.unit, task.delta.direction)
        )
        workshop.store.add_figures(
            cell,
            figures,
            map_per_class=list(score.per_class.items()),
            images=len(ids),
            evaluator=score.evaluator,
        )
        keep, expected = workshop.sweep.accuracy.keep, headline - delta.value
        if headline < keep * expected:
            raise CellProblem(
                Reason.ACCURACY_COLLAPSED,
                f"{task.metrics[0].label} is {headline:.3f}; PyTorch FP32 has {expected:.3f} on the same images, and "
                f"the sweep asks for at least {keep:.0%} of it.",
            )


def _predictions(subject: Subject, done: Collection[int]) -> Iterator[dict[int, Any]]:
    """What the task decodes of each batch, by image id; the next one is read while the guest computes.

    Batches whose images are all `done` are left out; the others stay as they are, whatever of them is done.
    """
    workshop, cell = subject.workshop, subject.cell
    task, images = workshop.task, workshop.images(cell).images
    deadline = workshop.deadlines(cell).infer
    every = [range(start, min(start + cell.batch, len(images))) for start in range(0, len(images), cell.batch)]
    batches = [batch for batch in every if not all(images[index].id in done for index in batch)]

    def read(batch: range) -> tuple[Tensor, list[Any]]:
        # The last batch is filled up with its own last image: a static batch takes no smaller one.
        filled = [*batch, *[batch[-1]] * (cell.batch - len(batch))]
        pairs = [task.prepare(images[index].pixels(), cell.imgsz) for index in filled]
        return np.concatenate([pixels for pixels, _ in pairs]), [geometry for _, geometry in pairs]

    with ThreadPoolExecutor(1) as reader:
        upcoming = [reader.submit(read, batch) for batch in batches[:1]]
        for number, batch in enumerate(batches):
            inputs, geometries = upcoming.pop().result()
            upcoming = [reader.submit(read, following) for following in batches[number + 1 : number + 2]]
            workshop.progress.phase(cell.id, f"accuracy {batch[-1] + 1}/{len(images)}")
            outputs = subject.guest.outputs(inputs, timeout=deadline)
            yield {
                images[index].id: task.decode(
                    {name: output[position] for name, output in outputs.items()}, geometries[position]
                )
                for position, index in enumerate(batch)
            }

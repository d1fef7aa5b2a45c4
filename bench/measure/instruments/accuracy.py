"""The task's score over the validation set, and its difference from PyTorch FP32 on the same images."""

from __future__ import annotations

from bench.measure.evaluation import batches, predict, unscored
from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.measure.scoring import score
from bench.store.metrics import in_cells
from bench.tasks.task import AnyTask


class Accuracy(CellInstrument):
    """Decodes what the guest infers on every image and scores it.

    The images are all there are, but a few where the target is slow and only its results are checked.  Where the cell
    is timed as well, the inferences that are timed are these.  What was predicted is on disk from shard to shard: a run
    that is stopped and resumed goes on at the image where it was.
    """

    name = "accuracy"
    needs = ("footprint",)
    compares = True
    joins = "latency"

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
        workshop, cell = subject.workshop, subject.cell
        with workshop.progress.timed(cell.id, self.name), unscored(workshop, cell) as found:
            if workshop.elsewhere is None or not workshop.elsewhere.predict(cell, found.add):
                predict(workshop, cell, subject.guest, batches(workshop, cell), found)
            score(workshop, cell, found.predictions())
            found.remove()

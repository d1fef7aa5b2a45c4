"""Raw outputs against PyTorch FP32's on the same inputs, before anything is decoded."""

from __future__ import annotations

import numpy as np

from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.tasks.task import AnyTask

KINDS = ("max", "mean", "p999")
"""What is stored of the differences of a group: the largest, the mean, the 99.9th percentile."""


class Parity(CellInstrument):
    """Compares raw outputs value by value, in the groups and units that the task names."""

    name = "parity"
    needs = ("footprint",)
    compares = True

    def columns(self, task: AnyTask) -> tuple[str, ...]:
        """What it fills."""
        return ("parity_images", *(f"parity_{group.name}_{kind}" for group in task.parity for kind in KINDS))

    def measure(self, subject: Subject) -> None:
        """Store the largest, the mean and the 99.9th percentile of the differences of each group."""
        workshop, cell = subject.workshop, subject.cell
        available = len(workshop.dataset.images)
        count = min(workshop.settings.sweep.parity.images, available)
        chosen = np.linspace(0, available - 1, count).astype(int)
        deadline = workshop.deadlines(cell).infer
        with workshop.progress.timed(cell.id, self.name):
            mine = [
                subject.guest.outputs(workshop.input([index] * cell.batch, cell.imgsz), timeout=deadline)
                for index in chosen
            ]
        reference = workshop.reference(cell)
        if cell.is_reference:
            reference.outputs = list(mine)
        found: dict[str, float | int] = {"parity_images": count}
        for group in workshop.task.parity:
            pairs = zip(mine, reference.outputs, strict=True)
            gaps = np.concatenate([np.abs(group.take(own) - group.take(other)).ravel() for own, other in pairs])
            found[f"parity_{group.name}_max"] = float(gaps.max())
            found[f"parity_{group.name}_mean"] = float(gaps.mean())
            found[f"parity_{group.name}_p999"] = float(np.quantile(gaps, 0.999))
        workshop.store.update(cell, **found)

"""Raw outputs against PyTorch FP32's on the same inputs, before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.measure import evaluation, references
from bench.measure.expectation import beyond, too_near
from bench.measure.instruments.attestation import attest
from bench.measure.instruments.instrument import CellInstrument, Subject
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason, Status, UsageError
from bench.store.metrics import Figure, in_cells
from bench.tasks.dataset import Image
from bench.tasks.task import AnyTask, Outputs

KINDS = ("max", "mean", "p999")
"""What is stored of the differences of a group: the largest, the mean, the 99.9th percentile."""


def images_of(workshop: Workshop) -> list[Image]:
    """The images that raw outputs are compared on, evenly spaced over the set."""
    return [workshop.dataset.images[index] for index in _chosen(workshop)]


def _chosen(workshop: Workshop) -> list[int]:
    available = len(workshop.dataset.images)
    count = min(workshop.sweep.parity.images, available)
    return [int(index) for index in np.linspace(0, available - 1, count)]


def _outputs(subject: Subject) -> list[Outputs]:
    """Raw outputs of those images, each of which fills a batch; the first image was inferred when it was loaded."""
    workshop, cell = subject.workshop, subject.cell
    deadline = workshop.deadlines(cell).infer
    first, *others = _chosen(workshop)
    known = subject.running.first if subject.running is not None and first == 0 else None
    indices = [first, *others] if known is None else others
    inputs = (workshop.input([index] * cell.batch, cell.imgsz) for index in indices)
    found: list[Outputs] = [] if known is None else [known]
    return [*found, *(subject.guest.outputs(x, timeout=deadline) for x in inputs)]


class Parity(CellInstrument):
    """Compares raw outputs value by value, in the groups and units that the task names."""

    name = "parity"
    needs = ("footprint",)
    compares = True

    def columns(self, task: AnyTask) -> tuple[str, ...]:
        """What it fills."""
        figures = (f"parity_{group.name}_{kind}" for group in task.parity for kind in KINDS)
        return ("parity_images", *in_cells(figures))

    def measure(self, subject: Subject) -> None:
        """Store the largest, the mean and the 99.9th percentile of the differences of each group.

        Raises CellProblem where they are too large or too small, UsageError where there is nothing to take them from.
        """
        workshop, cell = subject.workshop, subject.cell
        count = len(_chosen(workshop))
        with workshop.progress.timed(cell.id, self.name):
            mine = None if workshop.elsewhere is None else workshop.elsewhere.outputs(cell)
            if mine is None:
                mine = _outputs(subject)
                if subject.evaluated and cell.batch == 1:
                    evaluation.keep(workshop, cell, images_of(workshop), mine)
        reference = workshop.reference(cell)
        if cell.is_reference:
            reference.outputs = list(mine)
        elif not reference.outputs:
            raise UsageError(
                f"{cell.id} cannot be held against PyTorch FP32, whose raw outputs were let go when the run had ended: "
                "give the selection (-k) that the run was made with, or make a new run, without --resume"
            )
        found: list[Figure] = []
        for group in workshop.task.parity:
            pairs = zip(mine, reference.outputs, strict=True)
            gaps = np.concatenate([group.gaps(own, other) for own, other in pairs])
            values = (float(gaps.max()), float(gaps.mean()), float(np.quantile(gaps, 0.999)))
            found += [
                Figure(f"parity_{group.name}_{kind}", value, None, None, group.unit, "lower")
                for kind, value in zip(KINDS, values, strict=True)
            ]
        workshop.store.add_figures(cell, found, parity_images=count)
        if cell.is_reference:
            references.keep(workshop.store.directory, cell.cell_id, mine)
        self._hold(subject, {figure.metric.removeprefix("parity_"): figure.value or 0.0 for figure in found})

    def _hold(self, subject: Subject, found: Mapping[str, float]) -> None:
        """Raise CellProblem (invalid) where outputs are further away, or nearer, than the arithmetic can put them."""
        workshop, cell = subject.workshop, subject.cell
        limits, arithmetic = workshop.matrix.parity, workshop.expected(cell)["compute"]
        far, near = beyond(found, limits, cell.rounding), too_near(found, limits, arithmetic)
        if far or near:
            if subject.running is not None:  # a worker that has looked has asked
                attest(subject)  # where the runtime says itself that it ran something else, that is the better reason
            reason = Reason.PARITY_EXCEEDED if far else Reason.PARITY_TOO_NEAR
            raise CellProblem(reason, f"{far or near}, whatever {cell.option.name} says.", Status.INVALID)

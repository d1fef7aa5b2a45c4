"""What measuring a cell takes: its artifact, its environment, a guest to run it, inputs, and what it is compared with.

Instruments get a workshop; the session that goes through the cells owns it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.measure.elsewhere import Elsewhere
from bench.measure.expectation import expected
from bench.measure.outfit import Ingredients, Outfit
from bench.measure.rapl import Packages, packages
from bench.measure.spares import Spares
from bench.places import IN_CHECKOUT
from bench.reasons import CellProblem, Reason
from bench.store.reading import optional
from bench.store.writing import RunStore
from bench.tasks.dataset import Dataset
from bench.tasks.task import Outputs
from bench.wall.confinement import CONFINED, Confinement
from bench.wall.worker import Worker


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do."""

    sweep_name: str
    results: Path
    run_id: str
    models: Mapping[str, str] = field(default_factory=dict)
    """Paths or official names of checkpoints, as given, by the names of their models; none of the embedded one."""
    reproduce: str = ""
    """Command-line options that ask for this data again."""
    machine_name: str = ""
    """What the user calls this machine."""


@dataclass
class Reference:
    """What cells are compared with: PyTorch FP32's raw outputs on some images and its predictions on all."""

    outputs: list[Outputs] = field(default_factory=list)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)


class Workshop(Outfit):
    """Everything that instruments share in a run.  Not thread-safe: cells are measured one after another on purpose."""

    def __init__(
        self, settings: Settings, given: Ingredients, store: RunStore, elsewhere: Elsewhere | None = None
    ) -> None:
        """Nothing is built, started or exported before it is asked for.

        `elsewhere` is who works beside this process, if anybody does.
        """
        super().__init__(given)
        self.settings = settings
        self.store = store
        self.elsewhere = elsewhere
        self.spares = Spares(self.progress)
        self.evaluated_too = 0
        """How many of the images that calibrate are evaluated too."""
        self.ground_truth = self.task.ground_truth(self.dataset)
        self._references: dict[str, Reference] = {}
        self._without_reference: dict[str, CellProblem] = {}
        self._emulated: dict[str, str] = {}

    # -- what a cell is run with, beside its outfit ----------------------------------------------------------------

    def note(self, scope: str, facts: Mapping[str, Any]) -> None:
        """Record facts of what is used with the run."""
        self.store.add_environment(scope, facts)

    def note_calibration(self, images: Sequence[Path]) -> None:
        """Say, once, that images which calibrate are evaluated too: accuracy after calibration is then flattered."""
        shared = self.dataset.evaluated_too(images)
        if shared and not self.evaluated_too:
            self.evaluated_too = shared
            self.note("run", {"evaluated_too": shared})
            self.progress.message(
                f"{shared} of the {len(images)} images that calibrate INT8 are evaluated too, because train and val of "
                f"{self.dataset.name} share them: what INT8 loses may look smaller than it is."
            )

    def guest(self, cell: Cell, env: Env, name: str, confinement: Confinement = CONFINED) -> Worker:
        """A worker for a cell, not started yet; its stderr goes to the run's logs."""
        return Worker(
            env.python,
            self.matrix.runtime(cell),
            variables=self.environments.variables(),
            threads=cell.threads,
            cpus=self.cpus(cell),
            log_path=self.log(cell, name),
            confinement=confinement,
        )

    def log(self, cell: Cell, name: str) -> Path:
        """Where a guest of a cell writes what it has to say."""
        return self.store.directory / "logs" / f"{cell.cell_id.replace('/', '-')}-{name}.log"

    @cached_property
    def packages(self) -> Packages | None:
        """The packages of this machine's processor, where they tell what they take."""
        return packages()

    # -- what it is given, and what it is held against -------------------------------------------------------------

    def images(self, cell: Cell) -> Dataset:
        """The images a cell is evaluated on: all, or a few where it is not timed and its target sets a limit."""
        limit = self.matrix.targets[cell.target].images
        return self.dataset.subset(limit) if limit is not None and self.why_untimed(cell) else self.dataset

    def reference(self, cell: Cell) -> Reference:
        """What the cell's PyTorch FP32 reference gave; a reference's own, to be filled, where it is one.

        The session measures references first.  Raises CellProblem(REFERENCE_FAILED) where one has no result.
        """
        if cell.is_reference:
            return self._references.setdefault(cell.cell_id, Reference())
        reference = self.matrix.reference_of(cell)
        problem = self._without_reference.get(reference.cell_id)
        if problem is not None:
            raise CellProblem(Reason.REFERENCE_FAILED, f"The reference {reference.id} has no result: {problem}")
        return self._references[reference.cell_id]

    def restore_reference(self, cell: Cell, outputs: list[Outputs]) -> None:
        """Take up a reference of before the run was stopped: its `outputs` and, where scored, its predictions."""
        reference = self._references[cell.cell_id] = Reference(outputs)
        if self.store.row(cell)["images"] is not None:
            reference.predictions = optional(self.store.directory, self.task.table, {"cell_id": [cell.cell_id]})

    def note_failed_reference(self, cell: Cell, problem: CellProblem) -> None:
        """Keep why nothing can be compared with a reference."""
        self._without_reference[cell.cell_id] = problem

    def expected(self, cell: Cell) -> dict[str, Any]:
        """What a cell's runtime must attest, in the keys of an attestation."""
        return expected(cell, self.matrix.targets[cell.target])

    # -- what is told about it -------------------------------------------------------------------------------------

    def note_emulated(self, cell: Cell, emulated: str) -> None:
        """Keep what a runtime says stands in for the cell's device; empty where the device itself is at work."""
        self._emulated[cell.cell_id] = emulated

    def emulated(self, cell: Cell) -> str:
        """What was noted so."""
        return self._emulated.get(cell.cell_id, "")

    def note_process(self, cell: Cell, **values: float | None) -> None:
        """Store times and memory of the guest's process, unless they are those of an emulator."""
        if not self.matrix.targets[cell.target].emulator:
            self.store.update(cell, **values)

    def why_untimed(self, cell: Cell) -> str:
        """Why no latency is taken of a cell that runs, or nothing.  Known once its artifact was loaded."""
        target, emulated = self.matrix.targets[cell.target], self.emulated(cell)
        if not target.timed:
            return f"{target.name}: results are checked here, no latency is taken."
        if emulated:
            return f"{emulated} stands in for the device: results are checked here, no latency is taken."
        return ""

    def reproduce(self, cell: Cell) -> str:
        """The command that measures a cell again."""
        given = self.settings.models.get(cell.model)
        parts = [
            f"{'nox -s bench --' if IN_CHECKOUT else 'yolo11-bench run'} --sweep {self.settings.sweep_name}",
            f"--model {shlex.quote(Path(given).name)}" if given else "",  # folders differ
            self.settings.reproduce,
            f"--options {cell.option.id} --precisions {cell.precision} --targets {cell.target}",
            f"--imgsz {cell.imgsz} --batch {cell.batch} --threads {cell.threads}",
        ]
        return " ".join(part for part in parts if part)

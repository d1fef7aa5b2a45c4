"""What measuring a cell takes: its artifact, its environment, a guest to run it, inputs, and what it is compared with.

Instruments get a workshop; the session that goes through the cells owns it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.environments.emulated import EmulatedEnvironments
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Env, Environments
from bench.grid import machine
from bench.grid.matrix import Cell, Matrix
from bench.grid.schema import Deadlines, Sweep
from bench.measure.exporting import calibration, export
from bench.places import IN_CHECKOUT
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason
from bench.store.writing import RunStore
from bench.tasks.dataset import Dataset, read_image
from bench.tasks.task import AnyTask, Outputs, Tensor
from bench.wall.artifacts import Artifact, Artifacts
from bench.wall.checkpoint import Checkpoint
from bench.wall.spec import load_spec
from bench.wall.worker import Worker


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do."""

    sweep_name: str
    sweep: Sweep
    results: Path
    cache: Path
    run_id: str
    reproduce: str = ""
    """Command-line options that ask for this model and data again."""


@dataclass
class Reference:
    """What cells are compared with: PyTorch FP32's raw outputs on some images and its predictions on all."""

    outputs: list[Outputs] = field(default_factory=list)
    predictions: pd.DataFrame = field(default_factory=pd.DataFrame)


class Workshop:
    """Everything that instruments share in a run.  Not thread-safe: cells are measured one after another on purpose."""

    def __init__(
        self,
        settings: Settings,
        matrix: Matrix,
        task: AnyTask,
        checkpoint: Checkpoint,
        dataset: Dataset,
        environments: Environments,
        store: RunStore,
        progress: Reporter,
    ) -> None:
        """Nothing is built, started or exported before it is asked for."""
        self.settings = settings
        self.matrix = matrix
        self.task = task
        self.checkpoint = checkpoint
        self.dataset = dataset
        self.environments = environments
        self.store = store
        self.progress = progress
        self.evaluated_too = 0
        """How many of the images that calibrate are evaluated too."""
        self.ground_truth = task.ground_truth(dataset)
        self._artifact_cache = Artifacts(settings.cache, environments)
        self._javascript = JsEnvironments(matrix.directory, settings.cache)
        emulators = {target.emulator for target in matrix.targets.values() if target.emulator}
        self._emulators = {name: EmulatedEnvironments(matrix.directory, settings.cache, name) for name in emulators}
        self._references: dict[str, Reference] = {}
        self._without_reference: dict[str, CellProblem] = {}
        self._artifacts: dict[str, Artifact] = {}
        self._emulated: dict[str, str] = {}

    # -- what a cell is run with -----------------------------------------------------------------------------------

    def artifact(self, cell: Cell) -> Artifact:
        """The exported artifact of a cell, from the cache or made now.  Raises CellProblem."""
        if cell.cell_id in self._artifacts:
            return self._artifacts[cell.cell_id]
        images = calibration(cell, self.dataset, self.settings.sweep)
        self._note_evaluated_too(images)
        with self.progress.timed(cell.id, "export"):
            deadline = self.settings.sweep.deadlines.export
            artifact = export(cell, self.matrix, self.checkpoint.path, images, self._artifact_cache, deadline)
        for warning in artifact.warnings:
            self.progress.message(warning)
        self._artifacts[cell.cell_id] = artifact
        return artifact

    def environment(self, family: str, target: str = "") -> Env:
        """A family's environment, built now if it is not there yet, and recorded with the run.  Raises CellProblem.

        Where the target is an emulated machine, it is that machine's.
        """
        emulator = self.matrix.targets[target].emulator if target else ""
        environments = self._emulators[emulator] if emulator else self.environments
        name = f"{family}-{emulator}" if emulator else family
        with self.progress.timed("", f"environment {name}", "environment"):
            env = environments.ensure(family)
        self.store.add_environment(f"env:{name}", env.facts())
        if emulator:
            self.store.add_environment(f"emulator:{emulator}", self._emulators[emulator].system.facts)
        return env

    def guest(self, cell: Cell, env: Env, name: str) -> Worker:
        """A worker for a cell, not started yet; its stderr goes to the run's logs."""
        return Worker(
            env.python,
            self.matrix.runtime(cell),
            variables=self.environments.variables(),
            threads=cell.threads,
            cpus=self.cpus(cell),
            log_path=self.store.directory / "logs" / f"{cell.cell_id.replace('/', '-')}-{name}.log",
        )

    def load_spec(self, cell: Cell, artifact: Artifact) -> dict[str, Any]:
        """What a runtime adapter's `load` is given.  Raises CellProblem where its JavaScript cannot be had."""
        family = cell.option.javascript
        javascript = None
        if family is not None:
            packages = self._javascript.ensure(family)
            javascript = packages.directory
            facts = {"lock_sha256": packages.lock_sha256, "bytes": packages.bytes, "packages": packages.packages()}
            self.store.add_environment(f"js:{family}", facts)
        target = self.matrix.targets[cell.target].emulates or cell.target
        return load_spec(cell, artifact, javascript) | {"target": target}

    def cpus(self, cell: Cell) -> list[int]:
        """CPUs a cell's guest is pinned to."""
        return machine.last_cpus(cell.threads)

    def deadlines(self, cell: Cell) -> Deadlines:
        """The sweep's deadlines with the patience that the cell's target asks for."""
        deadlines, patience = self.settings.sweep.deadlines, self.matrix.targets[cell.target].patience
        changed = {"load": deadlines.load * patience, "infer": deadlines.infer * patience}
        return deadlines.model_copy(update=changed)

    # -- what it is given, and what it is held against -------------------------------------------------------------

    def images(self, cell: Cell) -> Dataset:
        """The images a cell is evaluated on: all, or a few where it is not timed and its target sets a limit."""
        limit = self.matrix.targets[cell.target].images
        return self.dataset.subset(limit) if limit is not None and self.why_untimed(cell) else self.dataset

    def input(self, indices: Sequence[int], imgsz: int) -> Tensor:
        """Network input of shape (len(indices), 3, imgsz, imgsz), RGB 0..1, of images by position in the dataset."""
        images = (self.task.prepare(read_image(self.dataset.images[index].path), imgsz)[0] for index in indices)
        return np.concatenate(list(images))

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

    def note_failed_reference(self, cell: Cell, problem: CellProblem) -> None:
        """Keep why nothing can be compared with a reference."""
        self._without_reference[cell.cell_id] = problem

    def expected(self, cell: Cell) -> dict[str, Any]:
        """What a cell's runtime must attest, in the keys of an attestation."""
        target = self.matrix.targets[cell.target]
        # An emulated processor is not the one whose features these are; it has what the target asks for.
        lacks = not target.emulator and target.lacks(cell.compute, machine.cpu_flags())
        expected = {
            "device": target.device,
            "compute": cell.spec.compute if lacks else cell.compute,
            "threads": cell.threads,
            "input_shape": [cell.batch, 3, cell.imgsz, cell.imgsz],
        }
        if not target.threaded:
            del expected["threads"]
        return expected

    # -- what is told about it -------------------------------------------------------------------------------------

    def note_emulated(self, cell: Cell, emulated: str) -> None:
        """Keep what a runtime says stands in for the cell's device; empty where the device itself is at work."""
        self._emulated[cell.cell_id] = emulated

    def note_process(self, cell: Cell, **values: float | None) -> None:
        """Store times and memory of the guest's process, unless they are those of an emulator."""
        if not self.matrix.targets[cell.target].emulator:
            self.store.update(cell, **values)

    def why_untimed(self, cell: Cell) -> str:
        """Why no latency is taken of a cell that runs, or nothing.  Known once its artifact was loaded."""
        target, emulated = self.matrix.targets[cell.target], self._emulated.get(cell.cell_id, "")
        if not target.timed:
            return f"{target.name}: results are checked here, no latency is taken."
        if emulated:
            return f"{emulated} stands in for the device: results are checked here, no latency is taken."
        return ""

    def reproduce(self, cell: Cell) -> str:
        """The command that measures a cell again."""
        parts = [
            f"{'nox -s bench --' if IN_CHECKOUT else 'yolo11-bench run'} --sweep {self.settings.sweep_name}",
            self.settings.reproduce,
            f"--options {cell.option.id} --precisions {cell.precision} --targets {cell.target}",
            f"--imgsz {cell.imgsz} --batch {cell.batch} --threads {cell.threads}",
        ]
        return " ".join(part for part in parts if part)

    def _note_evaluated_too(self, images: Sequence[Path]) -> None:
        """Say, once, that images which calibrate are evaluated too: accuracy after calibration is then flattered."""
        shared = self.dataset.evaluated_too(images)
        if shared and not self.evaluated_too:
            self.evaluated_too = shared
            self.store.add_environment("run", {"evaluated_too": shared})
            self.progress.message(
                f"{shared} of the {len(images)} images that calibrate INT8 are evaluated too, because train and val of "
                f"{self.dataset.name} share them: what INT8 loses may look smaller than it is."
            )

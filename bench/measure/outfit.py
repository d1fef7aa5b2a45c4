"""What a cell is run with: its artifact, its environment, what its guest loads, where it is pinned, its input.

The same for a sweep, which times cells among cells, and for a comparison, which times two sides of one cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.environments.emulated import EmulatedEnvironments
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Env, Environments
from bench.grid import machine
from bench.grid.matrix import Cell, Matrix
from bench.grid.schema import Deadlines, Sweep
from bench.measure import exporting
from bench.measure.fitted import prepared
from bench.measure.gpu import Gpu, first_gpu
from bench.progress import Reporter
from bench.reasons import CellProblem
from bench.tasks.dataset import Dataset
from bench.tasks.task import AnyTask, Tensor
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.checkpoint import Checkpoint
from bench.wall.spec import load_spec

MEMORY_SHARE = 0.6
"""Share of the memory that is free when cells begin to be timed which the guests of a window may fill."""


@dataclass(frozen=True)
class Ingredients:
    """What cells are made from; `checkpoints` are those of their models, by name.

    `running` are the environments that guests run in, where they are not those that artifacts are exported in.
    """

    matrix: Matrix
    sweep: Sweep
    cache: Path
    task: AnyTask
    checkpoints: Mapping[str, Checkpoint]
    dataset: Dataset
    environments: Environments
    progress: Reporter
    running: Environments | None = None


class Outfit:
    """Makes what cells are run with, each when it is asked for."""

    def __init__(self, given: Ingredients) -> None:
        """Nothing is built, started or exported before it is asked for."""
        self.matrix = given.matrix
        self.sweep = given.sweep
        self.task = given.task
        self.checkpoints = given.checkpoints
        self.dataset = given.dataset
        self.environments = given.environments
        self.progress = given.progress
        self.cache = given.cache
        self.running = given.running or given.environments
        self._artifact_cache = Artifacts(given.cache, given.environments)
        self._javascript = JsEnvironments(self.matrix.directory, given.cache)
        emulators = {target.emulator for target in self.matrix.targets.values() if target.emulator}
        self._emulators = {name: EmulatedEnvironments(self.matrix.directory, given.cache, name) for name in emulators}
        self._artifacts: dict[str, Artifact | CellProblem] = {}

    def note(self, scope: str, facts: Mapping[str, Any]) -> None:
        """Keep facts of what is used; a sweep records them with its run."""

    def note_calibration(self, images: Sequence[Path]) -> None:
        """Look at the images that calibrate; a sweep says where they are evaluated too."""

    def artifact(self, cell: Cell) -> Artifact:
        """The exported artifact of a cell, from the cache or made now.  Raises CellProblem."""
        if cell.cell_id not in self._artifacts:
            with self.progress.timed(cell.id, "export"):
                self.use({cell.cell_id: self.export(self.stages(cell))})
        made = self._artifacts[cell.cell_id]
        if isinstance(made, CellProblem):
            raise made
        return made

    def use(self, artifacts: Mapping[str, Artifact | CellProblem]) -> None:
        """Take these artifacts for those of cells, by cell id, or why there are none; nothing is exported then."""
        self._artifacts |= artifacts
        warned = dict.fromkeys(
            warning for made in artifacts.values() if isinstance(made, Artifact) for warning in made.warnings
        )
        for warning in warned:
            self.progress.message(warning)

    def stages(self, cell: Cell) -> list[ExportRequest]:
        """What is exported of a cell, in order.  Raises UsageError for calibration images that cannot be had."""
        images = exporting.calibration(cell, self.dataset, self.sweep)
        self.note_calibration(images)
        return exporting.stages(cell, self.matrix, self.checkpoints[cell.model].path, images)

    def export(self, stages: Sequence[ExportRequest]) -> Artifact:
        """The artifact of the last stage, from the cache or made now.  Raises as `Artifacts.ensure` does.

        Other threads may do so at the same time.
        """
        return exporting.export(stages, self._artifact_cache, self.sweep.deadlines.export)

    def forking(self, wanted: Iterable[Sequence[ExportRequest]]) -> AbstractContextManager[None]:
        """Meanwhile exporters of which these artifacts' stages need several are forked from one process."""
        return exporting.forking(wanted, self._artifact_cache)

    def lacks(self, stages: Sequence[ExportRequest]) -> str | None:
        """The content address of the last stage where one is not in the cache, and the environments for it then are.

        Raises CellProblem where one cannot be had, UsageError for an unreadable file.
        """
        return exporting.lacking(stages, self._artifact_cache)

    def artifact_key(self, cell: Cell) -> str:
        """The content address of a cell's artifact; nothing is exported.  Raises UsageError for an unreadable file."""
        return exporting.key(self.stages(cell), self._artifact_cache)

    def environment(self, family: str, target: str = "") -> Env:
        """A family's environment, built now if it is not there yet.  Raises CellProblem.

        Where the target is an emulated machine, it is that machine's.
        """
        emulator = self._emulator(target)
        environments = self._environments_on(target)
        name = f"{family}-{emulator}" if emulator else family
        with self.progress.timed("", f"environment {name}", "environment"):
            env = environments.ensure(family)
        self.note(f"env:{name}", env.facts())
        if emulator:
            self.note(f"emulator:{emulator}", self._emulators[emulator].system.facts)
        return env

    def lock(self, cell: Cell) -> str:
        """What decides which packages a cell runs with, those of its page too; nothing is installed.

        Raises UsageError for a lock that cannot be read, CellProblem for an interpreter of the user's that cannot run.
        """
        identities = [self._environments_on(cell.target).identity(cell.environment)]
        if cell.option.javascript is not None:
            identities.append(self._javascript.identity(cell.option.javascript))
        return " ".join(identities)

    def _emulator(self, target: str) -> str:
        """The emulator that makes a target; empty where it is of this machine, or none is named."""
        return self.matrix.targets[target].emulator if target else ""

    def _environments_on(self, target: str) -> Environments:
        emulator = self._emulator(target)
        return self._emulators[emulator] if emulator else self.running

    def load_spec(self, cell: Cell, artifact: Artifact) -> dict[str, Any]:
        """What a runtime adapter's `load` is given.  Raises CellProblem where its JavaScript cannot be had."""
        family = cell.option.javascript
        javascript = None
        if family is not None:
            packages = self._javascript.ensure(family)
            javascript = packages.directory
            facts = {"lock_sha256": packages.lock_sha256, "bytes": packages.bytes, "packages": packages.packages()}
            self.note(f"js:{family}", facts)
        target = self.matrix.targets[cell.target].emulates or cell.target
        return load_spec(cell, artifact, javascript) | {"target": target} | self._gpu_limit(cell)

    def _gpu_limit(self, cell: Cell) -> dict[str, int]:
        """`gpu_limit_bytes`, the most that a guest may hold of the GPU it runs on; nothing where that does not tell.

        It is of the whole card and not of what is free, so that every guest of a cell is told the same.
        """
        gpu = self.gpu(cell)
        total = None if gpu is None else gpu.total_bytes()
        return {} if total is None else {"gpu_limit_bytes": int(total * MEMORY_SHARE)}

    def gpu(self, cell: Cell) -> Gpu | None:
        """The GPU that a cell runs on, where it is one that tells of itself."""
        return self._gpu if self.matrix.targets[cell.target].device == "cuda" else None

    @cached_property
    def _gpu(self) -> Gpu | None:
        return first_gpu()

    def cpus(self, cell: Cell) -> list[int]:
        """CPUs a cell's guest is pinned to."""
        return machine.last_cpus(cell.threads)

    def deadlines(self, cell: Cell) -> Deadlines:
        """The sweep's deadlines with the patience that the cell's target asks for."""
        deadlines, patience = self.sweep.deadlines, self.matrix.targets[cell.target].patience
        changed = {"load": deadlines.load * patience, "infer": deadlines.infer * patience}
        return deadlines.model_copy(update=changed)

    def input(self, indices: Sequence[int], imgsz: int) -> Tensor:
        """Network input of shape (len(indices), 3, imgsz, imgsz), RGB 0..1, of images by position in the dataset."""
        images = (prepared(self.task, self.dataset.images[index], imgsz)[0] for index in indices)
        return np.concatenate(list(images))

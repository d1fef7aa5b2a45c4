"""The two sides of an A/B: what of a cell is another on one side, and everything else the same on both.

A side is written as

    current                  the project's locks and exporters, as a run takes them (nothing given means this)
    onnxruntime==1.24.4      the run-only environment with that version, commas between several
    best.pt                  another checkpoint
    path/to/artifact         a folder with a manifest.json, as in the cache
    precision=int8           another precision of the same option
    v0.1.0                   any revision that git knows: the locks of then, for exporter and runtime
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import demo
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Environments
from bench.environments.pinned import PIN, PinnedEnvironments, RevisionEnvironments
from bench.grid import machine
from bench.grid.matrix import Cell, Matrix
from bench.grid.request import Grid, Request, expand
from bench.measure.exporting import calibration, export
from bench.measure.pairs import Side, condition
from bench.measure.prepare import TASK, data_file
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.tasks.dataset import Dataset, read_image
from bench.tasks.registry import TASKS
from bench.tasks.task import Tensor
from bench.wall import checkpoint as checkpoints
from bench.wall.artifacts import MANIFEST, Artifact, Artifacts
from bench.wall.checkpoint import Checkpoint
from bench.wall.spec import load_spec

CURRENT = "current"
_CHOICE = re.compile(r"^precision=(?P<value>[a-z0-9_-]+)$")


class Contestants:
    """Makes the sides of one cell."""

    def __init__(self, request: Request, progress: Reporter, *, huge: bool) -> None:
        """`request` must select one cell; `huge` asks for huge pages on both sides.

        Raises UsageError for a selection of none or several cells, a target that is not here, or wrong data.
        """
        self._request = request
        self._progress = progress
        self._huge = huge
        self.grid: Grid = expand(request)
        self.matrix: Matrix = self.grid.matrix
        self.cell = _only(self.grid, request)
        presence = machine.detect(self.matrix.targets[self.cell.target])
        if not presence.found:
            raise UsageError(presence.text)
        self._environments = Environments(request.matrices, request.cache)
        data = data_file(request, progress)
        self.dataset: Dataset = TASKS[TASK].load(data, limit=self.grid.sweep.images)
        self._checkpoint = self._resolve(request.text("model") or str(demo.CHECKPOINT))

    def side(self, text: str) -> Side:
        """The side that `text` asks for, exported and installed now where it is not yet.

        Raises UsageError for what cannot be meant, CellProblem where it cannot be made.
        """
        given = text.strip() or CURRENT
        environments, exporting = self._environments, self._environments
        cell, checkpoint, artifact = self.cell, self._checkpoint, None
        pins = [part.strip() for part in given.split(",")]
        choice = _CHOICE.match(given)
        if given == CURRENT:
            pass
        elif all(PIN.fullmatch(pin) for pin in pins):
            environments = PinnedEnvironments(self._request.matrices, self._request.cache, pins)
        elif given.endswith(".pt"):
            checkpoint = self._resolve(given)
        elif (Path(given) / MANIFEST).is_file():
            artifact = _read_artifact(Path(given))
        elif choice is not None:
            cell = self._other_precision(choice["value"])
        else:
            environments = exporting = RevisionEnvironments(self._request.matrices, self._request.cache, given)
        made = artifact or self._export(cell, checkpoint, exporting)
        with self._progress.timed("", f"environment of {given}", "environment"):
            env = environments.ensure(cell.environment)
        variables = environments.variables() | condition(huge=self._huge)
        return Side(given, env, self.matrix.runtime(cell), self._spec(cell, made), variables)

    @property
    def cpus(self) -> list[int]:
        """CPUs that both guests share: they take turns, and only so is neither's better than the other's."""
        return machine.last_cpus(self.cell.threads)

    def input(self) -> Tensor:
        """The image that both sides are timed on."""
        pixels, _ = TASKS[TASK].prepare(read_image(self.dataset.images[0].path), self.cell.imgsz)
        return np.repeat(pixels, self.cell.batch, axis=0)

    def _resolve(self, given: str) -> Checkpoint:
        with self._progress.timed("", "reading the checkpoint", "data"):
            return checkpoints.resolve(given, self._environments, self._request.cache)

    def _other_precision(self, name: str) -> Cell:
        option = self.cell.option
        if name not in option.precisions:
            raise UsageError(f"precision={name}: {option.name} has {', '.join(option.precisions)}")
        return replace(self.cell, precision=name)

    def _export(self, cell: Cell, checkpoint: Checkpoint, environments: Environments) -> Artifact:
        sweep = self.grid.sweep
        images = calibration(cell, self.dataset, sweep)
        artifacts = Artifacts(self._request.cache, environments)
        with self._progress.timed(cell.id, "export"):
            return export(cell, self.matrix, checkpoint.path, images, artifacts, sweep.deadlines.export)

    def _spec(self, cell: Cell, artifact: Artifact) -> dict[str, Any]:
        family, javascript = cell.option.javascript, None
        if family is not None:
            javascript = JsEnvironments(self.matrix.directory, self._request.cache).ensure(family).directory
        return load_spec(cell, artifact, javascript)


def _only(grid: Grid, request: Request) -> Cell:
    """The one cell asked for; PyTorch FP32, which comes with every selection, only where it is asked for by name."""
    named = request.names("options") or []
    cells = [cell for cell in grid.cells if not cell.is_reference or cell.option.id in named]
    cells = [cell for cell in cells if machine.detect(grid.matrix.targets[cell.target]).found] or cells
    if len(cells) == 1:
        return cells[0]
    shown = ", ".join(cell.id for cell in cells[:12]) + (", ..." if len(cells) > 12 else "")
    raise UsageError(
        "an A/B times one cell; choose it with --options, --precisions, --targets, --imgsz, --batch and --threads. "
        f"Selected are {len(cells)}: {shown or 'none'}"
    )


def _read_artifact(folder: Path) -> Artifact:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return Artifact(str(manifest["key"]), folder.resolve(), manifest)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / MANIFEST} is no manifest of an artifact: {error!r}") from error

"""What a probe is given: a finished run, its artifacts in the cache, guests to run them with, and images.

Probes look at the very artifacts that the run measured, found by the content address in its cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench import demo, store
from bench.environments.javascript import JsEnvironments
from bench.environments.locked import Env, Environments
from bench.grid import entries, machine
from bench.grid.entries import Entry
from bench.grid.matrix import Cell, Matrix
from bench.probes.observation import Unavailable
from bench.progress import Reporter
from bench.tasks.detect.task import DETECT
from bench.tasks.images import read_image
from bench.tasks.letterbox import letterbox
from bench.wall.artifacts import Artifact, Artifacts
from bench.wall.confinement import CONFINED, Confinement
from bench.wall.spec import load_spec
from bench.wall.worker import Worker

Tensor = npt.NDArray[np.float32]


class Parity(Entry):
    """When two raw outputs count as the same."""

    box_px: float
    score: float


class Known(Entry):
    """Calls by which guests of some options open sockets, though they speak to nobody outside, and why they do."""

    name: str
    options: list[str]
    calls: list[str]
    why: str


class Settings(Entry):
    """matrices/probes.toml."""

    images: int
    parity: Parity
    known: list[Known]
    packages: dict[str, list[str]]
    file_and_code_operators: list[str]


@dataclass(frozen=True)
class Subject:
    """A cell of the run, and the artifact that it ran."""

    cell: Cell
    artifact: Artifact

    @property
    def option(self) -> str:
        """Id of the option."""
        return self.cell.option.id


class Context:
    """A run to be probed.  Nothing is built or started before it is asked for."""

    def __init__(
        self, directory: Path, matrix: Matrix, cache: Path, progress: Reporter, data: Path | None = None
    ) -> None:
        """Read the run's cells and matrices/probes.toml.  Raises store.StoreError or UsageError.

        `data` is an Ultralytics data file whose images are used; None: the embedded demo images.
        """
        self.directory = directory
        self.matrix = matrix
        self.cache = cache
        self.progress = progress
        self.cells: pd.DataFrame = store.read_table(directory, "cells")
        path = matrix.directory / "probes.toml"
        self.settings = entries.parse(Settings, entries.read(path), path)
        self.environments = Environments(matrix.directory, cache)
        self.javascript = JsEnvironments(matrix.directory, cache)
        self._artifacts = Artifacts(cache, self.environments)
        self._data = data

    @cached_property
    def machine(self) -> str:
        """Short name of this machine."""
        return machine.short_name(machine.fingerprint(self.matrix.targets.values()))

    # -- what the run holds ----------------------------------------------------------------------------------------

    def options(self, targets: Sequence[str] = ()) -> list[str]:
        """Options that the run measured or exported on one of `targets` (empty: any), in table order."""
        rows = self.cells[self.cells.artifact_key.notna()]
        if targets:
            rows = rows[rows.target.isin(targets) & (rows.status == "measured")]
        found = set(rows.option)
        return [name for name in self.matrix.options if name in found]

    def subject(self, option: str, precision: str | None = None, targets: Sequence[str] = ()) -> Subject:
        """A cell of `option` with its artifact: `precision` (None: fp32, else the first), the smallest image size.

        Raises Unavailable when the run has none, or its artifact is not in this cache.
        """
        rows = self.cells[(self.cells.option == option) & self.cells.artifact_key.notna()]
        if targets:
            rows = rows[rows.target.isin(targets)]
        if precision is None and len(rows):
            precision = "fp32" if (rows.precision == "fp32").any() else str(rows.precision.iloc[0])
        rows = rows[rows.precision == precision].sort_values(["imgsz", "batch", "threads"], kind="stable")
        if not len(rows):
            where = f"on {' or '.join(targets)}" if targets else ""
            wanted = " ".join(filter(None, (option, precision, where)))
            raise Unavailable(f"The run has no artifact of {wanted}; sweep it first (yolo11-bench run --options).")
        row = rows.iloc[0]
        artifact = self._artifacts.find(str(row.artifact_key))
        if artifact is None:
            raise Unavailable(
                f"The artifact of {row.cell_id} is not in the cache {self.cache}; make it again with: {row.reproduce}"
            )
        spec = self.matrix.options[option]
        imgsz, batch, threads = (int(row[name]) for name in ("imgsz", "batch", "threads"))
        cell = Cell(str(row.model), spec, str(row.precision), str(row.target), imgsz, batch, threads)
        return Subject(cell, artifact)

    # -- what a probe runs -----------------------------------------------------------------------------------------

    def environment(self, family: str) -> Env:
        """The environment of a family, built now if need be.  Raises CellProblem."""
        with self.progress.timed("", f"environment {family}"):
            return self.environments.ensure(family)

    def guest(
        self,
        adapter: Path,
        family: str,
        *,
        wrapper: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        confinement: Confinement = CONFINED,
    ) -> Worker:
        """A worker with one thread, not started yet, in an environment of its own; `wrapper` precedes its command."""
        env = self.environment(family)
        given = self.environments.variables() | dict(variables or {})
        return Worker(env.python, adapter, variables=given, wrapper=wrapper, confinement=confinement)

    def runtime(
        self,
        subject: Subject,
        *,
        wrapper: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
        confinement: Confinement = CONFINED,
    ) -> Worker:
        """A worker with the subject's own runtime, as `guest` makes it."""
        adapter, family = self.matrix.runtime(subject.cell), subject.cell.environment
        return self.guest(adapter, family, wrapper=wrapper, variables=variables, confinement=confinement)

    def spec(self, subject: Subject, artifact: Artifact | None = None) -> dict[str, Any]:
        """What the runtime of `subject` is told to load: its own artifact, or another one that it can read."""
        family = subject.cell.option.javascript
        javascript = self.javascript.ensure(family).directory if family is not None else None
        return load_spec(subject.cell, artifact or subject.artifact, javascript) | {"threads": 1}

    def inputs(self, imgsz: int, batch: int = 1) -> list[Tensor]:
        """Network inputs (batch, 3, imgsz, imgsz), RGB 0..1, one per image, each filled with copies of its image."""
        return [np.repeat(letterbox(read_image(path), imgsz)[0], batch, axis=0) for path in self._images]

    @cached_property
    def _images(self) -> list[Path]:
        with self.progress.timed("", "images"):
            data = self._data or demo.prepare(self.cache / "demo")
        return [image.path for image in DETECT.load(data, limit=self.settings.images).images]

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="bench-probe-") as folder:
            yield Path(folder)


def as_given(manifest: Mapping[str, Any], x: Tensor) -> Tensor:
    """A network input (B, 3, S, S) in the layout that the artifact takes."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1) if manifest["input"]["layout"] == "NHWC" else x)


def as_raw(manifest: Mapping[str, Any], imgsz: int, output: Tensor) -> Tensor:
    """What the artifact itself gives as raw output (B, 4 + classes, anchors), boxes in px."""
    told = manifest["output"]
    raw = output.transpose(0, 2, 1) if told["layout"] == "channels_last" else output
    if told["units"] == "unit":
        raw = np.concatenate([raw[:, :4] * np.float32(imgsz), raw[:, 4:]], axis=1)
    return raw


@dataclass(frozen=True)
class Difference:
    """Largest difference of two raw outputs: box coordinates in px of the network input, scores in 0..1."""

    box_px: float
    score: float

    def within(self, limit: Parity) -> bool:
        """Whether both are at most the limit."""
        return self.box_px <= limit.box_px and self.score <= limit.score

    def __str__(self) -> str:
        """Both figures."""
        return f"{self.box_px:.2g} px, {self.score:.2g}"


def difference(mine: Sequence[Tensor], theirs: Sequence[Tensor]) -> Difference:
    """Largest difference over outputs (B, 4 + classes, anchors); infinite where shapes differ."""
    box, score = 0.0, 0.0
    for a, b in zip(mine, theirs, strict=True):
        if a.shape != b.shape:
            return Difference(float("inf"), float("inf"))
        gap = np.abs(a - b)
        box, score = max(box, float(gap[:, :4].max())), max(score, float(gap[:, 4:].max()))
    return Difference(box, score)

"""The first step of every run: what the models and the data are, and all that is wrong with them, before anything else.

A minute that is spent on an export is lost where the data set turns out to be another than the user thinks, and so is a
score.  What stops a run is a problem; what a reader of the score must know is a remark.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import demo
from bench.environments.locked import Environments
from bench.files import exists
from bench.grid.request import Grid, Request, expand
from bench.measure.exporting import calibrated
from bench.progress import Reporter
from bench.reasons import Collector, Problems, Remark, UsageError
from bench.tasks import datafile
from bench.tasks.dataset import Dataset
from bench.tasks.registry import TASKS
from bench.tasks.sizes import Sizes
from bench.wall import checkpoint as checkpoints
from bench.wall import datasets
from bench.wall.checkpoint import Checkpoint

TASK = "detect"


@dataclass(frozen=True)
class Calibration:
    """Images of the train split: how many there are, how many would calibrate, and how many of those are evaluated."""

    images: int
    taken: int
    evaluated_too: int


@dataclass(frozen=True)
class Inspection:
    """What was seen of models and their data; what could not be read is None, or not among the `checkpoints`.

    These are by the names of the models.  `problems` stop a run, a line each; `remarks` do not.
    """

    data: Path | None
    checkpoints: Mapping[str, Checkpoint]
    dataset: Dataset | None
    calibration: Calibration | None
    problems: tuple[str, ...]
    remarks: tuple[Remark, ...]

    def required(self) -> tuple[Mapping[str, Checkpoint], Dataset]:
        """The models and the data.  Raises Problems where there are any."""
        if self.problems or self.dataset is None:
            raise Problems(self.problems)
        return self.checkpoints, self.dataset


def inspect(request: Request, wanted: Grid, progress: Reporter, limit: int | None = None) -> Inspection:
    """Look at the models and the data of a request, at `limit` of its images where that is given.

    Nothing is exported, and no environment is made but the one that reads checkpoints; that one is not made where
    there are problems already.  Raises CellProblem where it cannot be made.
    """
    problems = Collector()
    environments = Environments(request.matrices, request.cache)
    data = problems.of(data_file, request, environments, progress)
    dataset, calibration = None, None
    if data is not None:
        kept = _memory(request.cache, data)
        with progress.timed("", "reading the images", "data"):
            dataset = TASKS[TASK].read(data, problems, limit=limit, kept=kept)
            if dataset is not None:
                calibration = _calibration(dataset, wanted, problems, kept)
    found: dict[str, Checkpoint] = {}
    if not problems.found or environments.existing(checkpoints.ENVIRONMENT) is not None:
        with progress.timed("", "reading the checkpoint", "data"):
            for name, given in wanted.models.items():
                checkpoint = problems.of(checkpoints.look, given, environments, request.cache)
                if checkpoint is not None:
                    found[name] = checkpoint
    remarks = list(dataset.remarks) if dataset is not None else []
    problems.of(checkpoints.require_different, found)
    for checkpoint in found.values():
        problems.of(checkpoint.require_usable)
        problems.of(checkpoint.require_sizes, {cell.imgsz for cell in wanted.cells})
        told = [checkpoint.second_branch()]
        if data is not None and dataset is not None and dataset.names:
            told.append(problems.of(_held_against, checkpoint, dataset, data))
        remarks += [remark for remark in told if remark is not None]
    return Inspection(data, found, dataset, calibration, problems.found, tuple(remarks))


def of_request(request: Request, progress: Reporter) -> Inspection:
    """The same of what a request names, at all images of the split unless it says how many.  Raises UsageError too."""
    grid = expand(request)
    asked = grid.sweep.images if request.text("images") is not None else None
    with progress:
        return inspect(request, grid, progress, asked)


def data_file(request: Request, environments: Environments, progress: Reporter) -> Path:
    """The data file asked for, or that of the embedded set, rendered now if need be.  Raises UsageError."""
    given = request.text("data")
    if given is not None:
        path = datafile.locate(given)
        own = request.matrices / "data" / f"{Path(given).stem}.yaml"
        if not exists(path) and Path(given).name == given and exists(own):
            return own
        if not exists(path) and Path(given).name == given:
            with progress.timed("", "looking for the data file", "data"):
                return datasets.brought(given, environments)
        return path
    if request.text("model") is not None:
        raise UsageError("--model needs --data: a model can only be judged on images of the classes it knows")

    def show(done: int, total: int) -> None:
        progress.phase("", f"rendering images {done}/{total}")

    with progress.timed("", "rendering the demo images", "data"):
        return demo.prepare(request.cache / "demo", on_progress=show)


def _held_against(checkpoint: Checkpoint, dataset: Dataset, data: Path) -> Remark | None:
    """A remark on classes of other names in the data file.  Raises UsageError where they are other classes."""
    checkpoint.require_classes(dataset.names, data)
    return checkpoint.renamed(dataset.names)


def _calibration(dataset: Dataset, wanted: Grid, problems: Collector, kept: Path) -> Calibration | None:
    """The images that calibrate, looked at as those that are evaluated are; None where no cell asks for them."""
    if not any(calibrated(cell) for cell in wanted.cells):
        return None
    own = Collector()
    taken = own.of(dataset.calibration_images, wanted.sweep.calibration_images) or ()
    Sizes(kept).of(taken, own)
    shared = own.of(dataset.evaluated_too, taken) or 0
    for text in own.found:
        problems.add(f"{text} (for the calibration of INT8; --precisions can leave that out)")
    return Calibration(len(dataset.train_images), len(taken), shared) if taken else None


def _memory(cache: Path, data: Path) -> Path:
    """The file in the cache that remembers the images of a data file."""
    return cache / "images" / f"{hashlib.sha256(os.fsencode(os.path.realpath(data))).hexdigest()[:24]}.json"


def facts(found: Inspection) -> dict[str, Any]:
    """What was seen, ready for JSON."""
    dataset = found.dataset
    return {
        "ready": not found.problems,
        "models": [{"name": name, **_model(one)} for name, one in found.checkpoints.items()],
        "data": None if dataset is None else _data(dataset, found.data),
        "calibration": None if found.calibration is None else asdict(found.calibration),
        "warnings": [asdict(remark) for remark in found.remarks],
        "problems": list(found.problems),
    }


def _model(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "file": str(checkpoint.path),
        "task": checkpoint.task,
        "classes": [name for _, name in sorted(checkpoint.names.items())],
        "channels": checkpoint.channels,
        "stride": checkpoint.stride,
        "head": checkpoint.head,
        "end_to_end": checkpoint.end2end,
        "end_to_end_branch": checkpoint.dual,
        "parameters": checkpoint.parameters,
        "architecture": checkpoint.architecture,
        "trained_imgsz": checkpoint.imgsz,
        "written_by": checkpoint.written,
        "sha256": checkpoint.sha256,
    }


def _data(dataset: Dataset, path: Path | None) -> dict[str, Any]:
    objects = Counter(dataset.boxes["category"].tolist())
    filled = len(set(dataset.boxes["image_id"].tolist()))
    sizes = Counter((image.width, image.height) for image in dataset.images)
    areas = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return {
        "file": str(path),
        "split": dataset.split,
        "images": {
            "found": dataset.counts.images,
            "read": len(dataset.images),
            "with_objects": filled,
            "empty_label_file": dataset.counts.empty if dataset.annotations is None else 0,
        },
        "label_files": dataset.counts.kinds if dataset.annotations is None else {},
        "annotations": None if dataset.annotations is None else str(dataset.annotations),
        "crowd_regions": int(dataset.boxes["crowd"].sum()) if dataset.annotations is not None else 0,
        "objects": sum(objects.values()),
        "classes": len(dataset.names),
        "seen": {dataset.names[index]: count for index, count in objects.most_common()},
        "sizes": {"smallest": areas[0], "largest": areas[-1], "different": len(sizes)},
        "sha256": dataset.sha256,
    }

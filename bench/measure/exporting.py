"""From a cell of the matrix to its artifact: the exporters it names, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.grid.matrix import REFERENCE_PRECISION, Cell, Matrix
from bench.grid.schema import Sweep
from bench.tasks.dataset import Dataset
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest


def calibration(cell: Cell, dataset: Dataset, sweep: Sweep) -> tuple[Path, ...]:
    """The images that calibrate a cell's artifact; none where its precision takes none.  Raises UsageError."""
    precision = cell.option.precisions[cell.spec.artifact or cell.precision]
    return dataset.calibration_images(sweep.calibration_images) if precision.calibrate else ()


def export(
    cell: Cell, matrix: Matrix, weights: Path, images: Sequence[Path], artifacts: Artifacts, deadline: float
) -> Artifact:
    """The artifact of a cell from the cache, or made now, each exporter within `deadline` seconds.

    Raises CellProblem, and UsageError for a file that cannot be read.
    """
    spec = cell.option.export
    request = ExportRequest(
        weights=weights,
        option=spec.exporter,  # not the option's id: options that run the same artifact share it
        precision=cell.spec.artifact or cell.precision,
        imgsz=cell.imgsz,
        batch=cell.batch,
        exporter=matrix.exporter(cell.option, spec.exporter),
        environment=spec.environment,
        calibration=tuple(images),
    )
    for exporter, family in spec.chain:
        stage = replace(
            request,
            option=exporter,
            precision=REFERENCE_PRECISION,
            exporter=matrix.exporter(cell.option, exporter),
            environment=family,
            calibration=(),
        )
        request = replace(request, source=artifacts.ensure(stage, timeout=deadline))
    return artifacts.ensure(request, timeout=deadline)

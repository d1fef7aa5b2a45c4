"""From a cell of the matrix to its artifact: the exporters it names, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from bench.grid import machine
from bench.grid.matrix import REFERENCE_PRECISION, Cell, Matrix
from bench.grid.schema import Sweep
from bench.tasks.dataset import Dataset
from bench.wall.artifacts import Artifact, Artifacts, ExportRequest
from bench.wall.exporters import worth_forking


def calibrated(cell: Cell) -> bool:
    """Whether the exporter of a cell's artifact is given images to calibrate with."""
    return cell.option.precisions[cell.spec.artifact or cell.precision].calibrate


def calibration(cell: Cell, dataset: Dataset, sweep: Sweep) -> tuple[Path, ...]:
    """The images that calibrate a cell's artifact; none where its precision takes none.  Raises UsageError."""
    return dataset.calibration_images(sweep.calibration_images) if calibrated(cell) else ()


def stages(cell: Cell, matrix: Matrix, weights: Path, images: Sequence[Path]) -> list[ExportRequest]:
    """What is exported of a cell, in order; each but the first is converted from the one before."""
    spec = cell.option.export
    assert spec is not None, "a cell of an option that nothing here makes is not measured"
    last = ExportRequest(
        weights=weights,
        option=spec.exporter,  # not the option's id: options that run the same artifact share it
        precision=cell.spec.artifact or cell.precision,
        imgsz=cell.imgsz,
        batch=cell.batch,
        exporter=matrix.exporter(cell.option, spec.exporter),
        environment=spec.environment,
        calibration=tuple(images),
        device=machine.device(matrix.targets[spec.device]) if spec.device is not None else "",
        program=machine.program(spec.program) if spec.program else "",
    )
    before = [
        replace(
            last,
            option=exporter,
            precision=REFERENCE_PRECISION,
            exporter=matrix.exporter(cell.option, exporter),
            environment=family,
            calibration=(),
            device="",
            program="",
        )
        for exporter, family in spec.chain
    ]
    return [*before, last]


def export(requests: Sequence[ExportRequest], artifacts: Artifacts, deadline: float) -> Artifact:
    """The artifact of the last stage from the cache, or made now, each exporter within `deadline` seconds.

    Raises CellProblem, and UsageError for a file that cannot be read.
    """
    made: Artifact | None = None
    for request in requests:
        made = artifacts.ensure(replace(request, source=made), timeout=deadline)
    assert made is not None, "there is a last stage"
    return made


def forking(wanted: Iterable[Sequence[ExportRequest]], artifacts: Artifacts) -> AbstractContextManager[None]:
    """Meanwhile exporters of which these artifacts' stages need several are forked, where that saves their imports."""
    different = {stage for stages in wanted for stage in stages}
    return artifacts.exporters.forking(worth_forking([(stage.exporter, stage.environment) for stage in different]))


def key(requests: Sequence[ExportRequest], artifacts: Artifacts) -> str:
    """The content address of the last stage; nothing is exported.  Raises UsageError for a file that cannot be read."""
    *_, last = _addressed(requests, artifacts)
    return artifacts.key(last)


def lacking(requests: Sequence[ExportRequest], artifacts: Artifacts) -> str | None:
    """The content address of the last stage where one is not in the cache yet, and None where all are.

    The environments that are needed then are there once this returns.  Raises as `Artifacts.prepare` does.
    """
    lacks, last = False, None
    for last in _addressed(requests, artifacts):
        lacks |= artifacts.prepare(last)
    assert last is not None, "there is a last stage"
    return artifacts.key(last) if lacks else None


def _addressed(requests: Sequence[ExportRequest], artifacts: Artifacts) -> Iterator[ExportRequest]:
    """Each stage with its source, of which only the content address counts."""
    found: Artifact | None = None
    for request in requests:
        stage = replace(request, source=found)
        yield stage
        found = Artifact(artifacts.key(stage), Path(), {})

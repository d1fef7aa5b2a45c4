"""From a request to a session that is ready to measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bench.environments.locked import Environments
from bench.grid.request import Grid, Request
from bench.measure.inspection import TASK, inspect
from bench.measure.outfit import Ingredients
from bench.measure.session import Session
from bench.measure.workshop import Settings, Workshop
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.store.writing import RunStore
from bench.tasks.registry import TASKS


def prepare(request: Request, wanted: Grid, progress: Reporter) -> Session:
    """Everything a run needs before its first cell: its folder, checkpoints, images, environments folder, store.

    Raises UsageError for a folder that another run has or that cannot be made, for a name that no machine can have, and
    for a checkpoint or data file that cannot be used, CellProblem when the environment that reads checkpoints cannot be
    built, StoreError when the results folder cannot be written.
    """
    name = request.machine_name  # a wrong one is told before anything is looked at
    with _taken(request.results / request.run_id) as directory:
        given = ingredients(request, wanted, progress)
        settings = Settings(
            sweep_name=request.sweep_name,
            results=request.results,
            run_id=request.run_id,
            models=wanted.models if request.models else {},
            reproduce=request.again(),
            machine_name=name,
        )
        references = {cell.cell_id: wanted.matrix.reference_of(cell).cell_id for cell in wanted.cells}
        store = RunStore(directory, request.run_id, wanted.cells, references)
    return Session(Workshop(settings, given, store), wanted.cells)


@contextmanager
def _taken(directory: Path) -> Iterator[Path]:
    """A run's folder, from now on nobody else's; given back, where the body raises before it has put anything there.

    Raises UsageError where it is there already, or cannot be made.
    """
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        text = f"{directory} exists already; runs are never overwritten: choose another --run-id"
        raise UsageError(text) from None
    except OSError as error:
        raise UsageError(f"cannot make {directory}: {error.strerror}; choose another --results or --run-id") from error
    try:
        yield directory
    except BaseException:  # Ctrl-C too
        with suppress(OSError):  # it is not empty
            directory.rmdir()
        raise


def ingredients(request: Request, wanted: Grid, progress: Reporter) -> Ingredients:
    """What the cells of a request are made from: checkpoints, images, environments.  Raises as `prepare` does."""
    found = inspect(request, wanted, progress, wanted.sweep.images)
    checkpoints, validation = found.required()
    for remark in found.remarks:
        progress.message(remark.text)
    return Ingredients(
        wanted.matrix,
        wanted.sweep,
        request.cache,
        TASKS[TASK],
        checkpoints,
        replace(validation, remarks=found.remarks),
        Environments(request.matrices, request.cache),
        progress,
    )


def of_house(given: Ingredients, matrices: Path, grid: Grid) -> Ingredients:
    """The same models and images for another house, whose `grid` it is: they are read once for both."""
    return replace(
        given, matrix=grid.matrix, sweep=grid.sweep, environments=Environments(matrices, given.cache), running=None
    )

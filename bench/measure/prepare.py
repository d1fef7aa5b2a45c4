"""From a request to a session that is ready to measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import filelock

from bench.environments.locked import Environments
from bench.files import lock_of, locked
from bench.grid.request import Grid, Request
from bench.measure.elsewhere import Elsewhere
from bench.measure.inspection import TASK, inspect
from bench.measure.outfit import Ingredients
from bench.measure.session import Session
from bench.measure.upkeep import little_upkeep
from bench.measure.workshop import Settings, Workshop
from bench.progress import Reporter
from bench.reasons import UsageError
from bench.store.before import Before
from bench.store.writing import RunStore
from bench.tasks.registry import TASKS

_GOING_ON = "going-on"
"""What of a run's folder is locked as long as the run goes on."""


@contextmanager
def prepare(
    request: Request, wanted: Grid, progress: Reporter, elsewhere: Elsewhere | None = None
) -> Iterator[Session]:
    """A run that is ready for its first cell: its folder, checkpoints, images, environments folder, store.

    Its folder is this process's alone as long as this lasts.  One that is gone on with is as it was left until it is
    known that it is the same.  `elsewhere` is who works beside this process, if anybody does.

    Raises UsageError for a folder that another run has or that cannot be made, for a run to be gone on with that is not
    there, is another or still goes on, for a name that no machine can have, and for a checkpoint or data file that
    cannot be used, CellProblem when the environment that reads checkpoints cannot be built, StoreError when the results
    folder cannot be written.
    """
    resumed = request.text("resume") is not None
    settings = Settings(
        sweep_name=request.sweep_name,
        results=request.results,
        run_id=request.run_id,
        models=wanted.models if request.models else {},
        reproduce=request.again(),
        machine_name=request.machine_name,
    )
    references = {cell.cell_id: wanted.matrix.reference_of(cell).cell_id for cell in wanted.cells}
    place = request.results / request.run_id
    with little_upkeep(), (_there if resumed else _taken)(place) as directory, _alone(directory):
        before = Before.read(directory, references, TASKS[TASK].table) if resumed else None
        given = ingredients(request, wanted, progress)
        store = RunStore(directory, request.run_id, wanted.cells, references, before)
        workshop = Workshop(settings, given, store, elsewhere)
        with closing(workshop.spares):
            yield Session(workshop, wanted.cells)


@contextmanager
def _there(directory: Path) -> Iterator[Path]:
    """The folder of a run that is gone on with.  Raises UsageError where it holds none."""
    if not (directory / "cells.parquet").is_file():
        raise UsageError(
            f"--resume {directory.name}: {directory} holds no run; give the name of one in {directory.parent}, or "
            "--results with the folder that it is in"
        )
    yield directory


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep every other process from going on with a run meanwhile.

    Raises UsageError where one is at it, or the lock cannot be made.
    """
    guarded = directory / _GOING_ON
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(guarded, timeout=0))
        except filelock.Timeout:
            raise UsageError(
                f"another process is measuring the run {directory}; wait until it has ended, or stop it, then give "
                "--resume again"
            ) from None
        except OSError as error:
            raise UsageError(
                f"cannot lock {directory}, which keeps two processes from measuring one run: {error}; choose another "
                "--results"
            ) from error
        try:
            yield
        finally:
            with suppress(OSError):  # Windows keeps a file that is open
                lock_of(guarded).unlink()  # still held: whoever has opened it by now locks a file without a name


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

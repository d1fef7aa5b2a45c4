"""What a worker does: one job in one task, with the present state of the bench and files by their content.

The module is imported by workers, wherever they are; what is sent to them is a `Job`, what comes back an `Answer`.
A guest stays for the next shard of its cell, since loading a model takes as long as inferring some dozens of images.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.environments import houses
from bench.environments.locked import Env, Environments
from bench.fleet import depot, small, tags
from bench.fleet.depot import Parcel
from bench.fleet.small import Told
from bench.grid import machine, matrix
from bench.grid.matrix import Cell, Matrix
from bench.grid.schema import Sweep
from bench.measure import exporting
from bench.measure.evaluation import batches_of, predicted
from bench.measure.outfit import Ingredients, Outfit
from bench.measure.quiet import working
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason, UsageError
from bench.tasks.dataset import Dataset
from bench.tasks.registry import TASKS
from bench.tasks.task import Outputs
from bench.wall import moving
from bench.wall.artifacts import Artifact, Artifacts
from bench.wall.checkpoint import Checkpoint
from bench.wall.worker import Worker


@dataclass(frozen=True)
class Unread:
    """What the images of a job were read from, which a worker does not need: annotations may be large."""

    def image_paths(self, _split: str) -> tuple[Path, ...]:
        """None: those that calibrate are sent by name."""
        return ()


@dataclass(frozen=True)
class Job:
    """One piece of work, with all that it needs by value or by content.

    `work` is a key of `WORK`, `run` tells the asking run from others, `harness` is the state of its bench, `house` its
    matrices and guest, packed.  `dataset` holds the images of the job and no labels.  `artifacts` are the content
    addresses of what is run of each of the `cells`; an export has `weights` and the images that calibrate instead.
    `token` is that of the asking cache.  What is of a machine names it: `machine` is its id.  `instruments` are those
    that are wanted, `rows` what is known of the cells' guests, by cell id.
    """

    work: str
    run: str
    harness: str
    house: Parcel
    task: str
    cells: tuple[Cell, ...]
    sweep: Sweep
    checkpoints: Mapping[str, Checkpoint]
    dataset: Dataset
    token: str
    artifacts: tuple[str, ...] = ()
    weights: Parcel | None = None
    calibration: tuple[Parcel, ...] = ()
    machine: str = ""
    instruments: tuple[str, ...] = ()
    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def cell(self) -> Cell:
        """The cell, or the first of several."""
        return self.cells[0]

    @property
    def artifact(self) -> str:
        """The content address of what is run of it."""
        return self.artifacts[0]

    @property
    def guest(self) -> str:
        """The cell whose guest does it, and stays for its next job; empty where none stays."""
        return self.cell.cell_id if self.work in HELD else ""

    @property
    def parcels(self) -> tuple[Parcel, ...]:
        """The files that it needs."""
        images = (Parcel(image.content, image.path) for image in self.dataset.images)
        return (self.house, *(() if self.weights is None else (self.weights,)), *self.calibration, *images)


@dataclass(frozen=True)
class Answer:
    """What became of a job: `value`, or why there is none; or what the worker lacks, so that it could not begin.

    `worker` is its address and `machine` what its machine is called.
    """

    worker: str
    machine: str
    value: Any = None
    problem: CellProblem | None = None
    files: tuple[Parcel, ...] = ()
    artifacts: tuple[str, ...] = ()

    @property
    def lacks(self) -> bool:
        """Whether something has to be sent first."""
        return bool(self.files or self.artifacts)


@dataclass(frozen=True)
class _Bench:
    """An outfit with what it was made from, and the artifacts of the cache that it works in."""

    given: Ingredients
    outfit: Outfit
    artifacts: Artifacts


@dataclass(frozen=True)
class _Loaded:
    """A guest that has loaded an artifact, its environment, and the packages that this began with."""

    guest: Worker
    env: Env
    packages: tuple[str, ...]


def do(job: Job) -> Answer:
    """Do a job on the worker that this is called on.

    Raises UsageError where the worker's bench is another, or its cache cannot be used.
    """
    from distributed import get_worker

    told = Answer(get_worker().address, tags.machine_name())
    if job.harness != tags.harness():
        raise UsageError(tags.other_harness(told.worker))
    files = depot.lacking(job.parcels)
    if files:
        return replace(told, files=files)
    bench = _bench(job)
    absent = tuple(key for key in dict.fromkeys(job.artifacts) if bench.artifacts.find(key) is None)
    if absent:
        return replace(told, artifacts=absent)
    try:
        with nullcontext() if job.work in ALONE else working():
            _require_machine(job)
            return replace(told, value=WORK[job.work](bench, job))
    except CellProblem as problem:
        _HELD.release(job.run)
        return replace(told, problem=small.sendable(problem))


def release(run: str) -> None:
    """End the guest that stayed of a run."""
    _HELD.release(run)


def stop(run: str) -> None:
    """End whatever is done for a run, which is over or was stopped."""
    _STOPPED.add(run)
    _HELD.release(run)


_STOPPED: set[str] = set()
"""Runs for which nothing is done any more."""


class _Stoppable(Reporter):
    """Says nothing, and is where long work looks whether it is still wanted: every turn is told to it."""

    def __init__(self, run: str) -> None:
        super().__init__(Console(), enabled=False)
        self._run = run

    def phase(self, cell_id: str, phase: str) -> None:
        """Raise CellProblem where the run was stopped."""
        if self._run in _STOPPED:
            raise CellProblem(Reason.INTERRUPTED, "The run that this was done for was stopped.")
        super().phase(cell_id, phase)


def _require_machine(job: Job) -> None:
    """Raise CellProblem where what is of a machine would be measured on another one."""
    own = machine.machine_id() if job.machine else ""
    if job.machine != own:
        raise CellProblem(
            Reason.NOT_TIMED,
            f"The times of {job.machine} were asked for, and this worker is on {own}: nothing is timed on a machine "
            "that was not asked for.",
        )


@lru_cache(maxsize=4)
def _house(archive: Path) -> tuple[Matrix, Environments]:
    """The matrix and the environments of a packed house; another state of the bench is another house."""
    folder = houses.unpack(archive.read_bytes(), depot.cache())
    return matrix.load(folder), Environments(folder, depot.cache())


def _bench(job: Job) -> _Bench:
    """What the job's cell is run with, here."""
    read, environments = _house(_here(job.house))
    images = tuple(replace(image, path=_here(Parcel(image.content, image.path))) for image in job.dataset.images)
    checkpoints = dict(job.checkpoints)
    if job.weights is not None:
        checkpoints[job.cell.model] = replace(checkpoints[job.cell.model], path=_here(job.weights))
    cache = depot.cache()
    given = Ingredients(
        read,
        job.sweep,
        cache,
        TASKS[job.task],
        checkpoints,
        replace(job.dataset, images=images),
        environments,
        _Stoppable(job.run),
    )
    return _Bench(given, Outfit(given), Artifacts(cache, environments))


def _here(parcel: Parcel) -> Path:
    found = depot.find(parcel)
    if found is None:
        raise UsageError(f"{parcel.path} changed while it was used; leave the data alone while it is evaluated")
    return found


# -- the works ---------------------------------------------------------------------------------------------------------


def _export(bench: _Bench, job: Job) -> list[tuple[str, bytes | None]]:
    """Make a cell's artifacts, stage by stage: address and content of each, None where the asking cache has it too."""
    images = [_here(parcel) for parcel in job.calibration]
    outfit = bench.outfit
    shared = depot.token(depot.cache()) == job.token
    made: list[tuple[str, bytes | None]] = []
    source: Artifact | None = None
    for stage in exporting.stages(job.cell, outfit.matrix, outfit.checkpoints[job.cell.model].path, images):
        source = bench.artifacts.ensure(replace(stage, source=source), timeout=job.sweep.deadlines.export)
        made.append((source.key, None if shared else moving.packed(source)))
    return made


def _infer(bench: _Bench, job: Job) -> list[Outputs]:
    """Raw outputs of each image, which fills the whole batch."""
    cell, outfit = job.cell, bench.outfit
    deadline = outfit.deadlines(cell).infer
    loaded = _loaded(bench, job)
    inputs = (outfit.input([index] * cell.batch, cell.imgsz) for index in range(len(outfit.dataset.images)))
    found: list[Outputs] = [loaded.guest.outputs(x, timeout=deadline) for x in inputs]
    loaded.env.require_unchanged(loaded.packages)
    return found


def _predict(bench: _Bench, job: Job) -> Mapping[int, Any]:
    """What the task decodes of each image, by image id."""
    loaded = _loaded(bench, job)
    wanted = batches_of(bench.outfit.dataset.images, job.cell)
    found: dict[int, Any] = {}
    for part in predicted(bench.outfit, job.cell, loaded.guest, wanted):
        found |= part
    loaded.env.require_unchanged(loaded.packages)
    return found


def _look(bench: _Bench, job: Job) -> Told:
    """Footprint and attestation of a cell on this machine."""
    _HELD.release()
    return small.look(bench.given, job.cell, _artifacts(bench, job)[0], job.instruments)


def _time(bench: _Bench, job: Job) -> Told:
    """A window of cells, timed on this machine."""
    _HELD.release()
    return small.time(bench.given, job.cells, _artifacts(bench, job), job.rows)


def _artifacts(bench: _Bench, job: Job) -> list[Artifact]:
    found = [bench.artifacts.find(key) for key in job.artifacts]
    assert None not in found, "they were looked for before"
    return [one for one in found if one is not None]


WORK: Mapping[str, Callable[[_Bench, Job], Any]] = {
    "export": _export, "infer": _infer, "predict": _predict, "look": _look, "time": _time,
}  # fmt: skip
HELD = {"infer", "predict"}
"""What is done by a guest that stays."""
ALONE = {"time"}
"""What takes times, and so has the machine to itself; others rest meanwhile."""


class _Held:
    """The guest that did the last shard, and the run that it did it for."""

    def __init__(self) -> None:
        """There is none."""
        self._run = ""
        self._key: tuple[str, ...] = ()
        self._stack = ExitStack()
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()

    def get(self, run: str, key: tuple[str, ...], start: Callable[[ExitStack], _Loaded]) -> _Loaded:
        """The guest that is held for `key`, or a new one in the place of whatever is held."""
        with self._lock:
            self._run = run
            if self._loaded is None or self._key != key:
                self._end()
                with ExitStack() as stack:
                    self._loaded = start(stack)
                    self._key, self._stack = key, stack.pop_all()
            return self._loaded

    def release(self, run: str = "") -> None:
        """End it, if it is of that run or none is named."""
        with self._lock:
            if run in ("", self._run):
                self._end()

    def _end(self) -> None:
        self._loaded = None
        self._stack.close()


_HELD = _Held()


def _loaded(bench: _Bench, job: Job) -> _Loaded:
    """A guest that has loaded the cell's artifact, not pinned: the CPUs of a machine are its workers' to share."""

    def start(stack: ExitStack) -> _Loaded:
        outfit, cell = bench.outfit, job.cell
        artifact = bench.artifacts.find(job.artifact)
        assert artifact is not None, "it was looked for before"
        env = outfit.environment(cell.environment, cell.target)
        packages = env.freeze()
        adapter, variables = outfit.matrix.runtime(cell), outfit.environments.variables()
        guest = stack.enter_context(Worker(env.python, adapter, variables=variables, threads=cell.threads))
        guest.load(outfit.load_spec(cell, artifact), timeout=outfit.deadlines(cell).load)
        return _Loaded(guest, env, packages)

    return _HELD.get(job.run, (job.house.sha256, job.artifact, job.cell.cell_id), start)

"""A run's work for a cluster: which jobs there are of its cells, when they can begin, and what they gave.

A cell's images are cut into shards at the borders of its batches, so that every image is inferred in the same batch as
by one process; what is decoded of them is joined in order of images, and scored here as a whole.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future as Promise
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import Client

from bench.environments import houses
from bench.files import locked, replacing
from bench.fleet import depot, tags
from bench.fleet.crew import Crew
from bench.fleet.depot import Parcel
from bench.fleet.jobs import Answer, Job
from bench.grid.matrix import Cell
from bench.measure import exporting
from bench.measure.evaluation import batches_of
from bench.measure.instruments.parity import images_of
from bench.measure.workshop import Workshop
from bench.reasons import UsageError
from bench.tasks.dataset import Image
from bench.tasks.task import Outputs
from bench.wall import moving
from bench.wall.artifacts import Artifacts

SHARDS = 64
"""Most shards of a cell: enough for any fleet, and few enough for one scheduler."""
SHARD_IMAGES = 16
"""Fewest images of one: below that, sending it takes as long as inferring it."""
SCOPE = "fleet"


class Fleet:
    """`bench.measure.elsewhere.Elsewhere` on the workers of a connected client."""

    def __init__(self, client: Client) -> None:
        """Nothing is sent before `begin`."""
        self._client = client
        self._crew: Crew | None = None
        self._exports: dict[str, tuple[str, Promise[Answer]]] = {}
        self._waiting: dict[str, list[Cell]] = {}
        self._outputs: dict[str, Promise[Answer]] = {}
        self._shards: dict[str, list[Promise[Answer]]] = {}

    # -- what a session asks ---------------------------------------------------------------------------------------

    def begin(self, workshop: Workshop, cells: Iterable[Cell]) -> None:
        """Send the exports that are not in the cache, and the images of all cells whose artifact is."""
        self._workshop = workshop
        self._crew = Crew(self._client, workshop.cache, workshop.environments)
        self._artifacts = Artifacts(workshop.cache, workshop.environments)
        self._house = _house(workshop)
        for cell in cells:
            if self._crew.able(self._of_target(cell)):
                self._begin(cell)

    def export(self, cell: Cell) -> None:
        """See `Elsewhere`."""
        self._bring()
        key, promise = self._exports.get(cell.cell_id, ("", None))
        if promise is None:
            return
        wanted = self._export_tags(cell)
        with self._workshop.progress.timed(cell.id, "export on a worker", "export"):
            self._help.wait([promise], wanted, lambda _: None)
        answer = promise.result()
        self._bring()
        if answer.problem is not None:
            raise answer.problem
        if self._artifacts.find(key) is None:
            self._workshop.progress.message(
                f"{cell.id}: {answer.machine} exports another artifact than this machine would; it is exported here."
            )

    def outputs(self, cell: Cell) -> list[Outputs] | None:
        """See `Elsewhere`."""
        self._begin_late(cell)
        promise = self._outputs.get(cell.cell_id)
        if promise is None:
            return None
        self._help.wait([promise], self._of_target(cell), lambda _: self._bring())
        found: list[Outputs] = self._value(cell, "parity", [promise])[0]
        return found

    def predict(self, cell: Cell, add: Callable[[Mapping[int, Any]], None]) -> bool:
        """See `Elsewhere`."""
        self._begin_late(cell)
        promises = self._shards.pop(cell.cell_id, None)
        if promises is None:
            return False
        given: set[int] = set()

        def take(done: int) -> None:
            """Hand on what has come, so that whoever is stopped now has it on disk."""
            self._workshop.progress.phase(cell.id, f"accuracy: {done} of {len(promises)} shards")
            for place, promise in enumerate(promises):
                if place not in given and promise.done() and (value := promise.result().value) is not None:
                    given.add(place)
                    add(value)
            self._bring()

        self._help.wait(promises, self._of_target(cell), take)
        self._value(cell, "accuracy", promises)
        return True

    def rest(self) -> None:
        """See `Elsewhere`."""
        if self._crew is not None:
            self._crew.release()
            self._crew = None

    # -- private ---------------------------------------------------------------------------------------------------

    @property
    def _help(self) -> Crew:
        assert self._crew is not None, "the session has begun, and does not rest yet"
        return self._crew

    def _of_target(self, cell: Cell) -> list[str]:
        return [tags.of_target(cell.target)]

    def _export_tags(self, cell: Cell) -> list[str]:
        """Who makes the artifact that this machine would: any of its platform, or its like where more goes into it."""
        spec = cell.option.export
        alike = exporting.calibrated(cell) or spec.device is not None or spec.program
        return [tags.of_machine() if alike else tags.of_platform()]

    def _begin(self, cell: Cell) -> None:
        """Send a cell's work, or first the export that it needs."""
        workshop = self._workshop
        key = workshop.artifact_key(cell)
        if self._artifacts.find(key) is not None:
            self._send(cell, key)
            return
        self._waiting.setdefault(key, []).append(cell)
        known = next((promise for other, promise in self._exports.values() if other == key), None)
        wanted = self._export_tags(cell)
        if known is None and self._help.able(wanted):
            images = exporting.calibration(cell, workshop.dataset, workshop.sweep)
            workshop.note_calibration(images)
            weights = Parcel.of(workshop.checkpoints[cell.model].path)
            job = self._job(cell, "export", (), weights=weights, calibration=tuple(map(Parcel.of, images)))
            known = self._help.send(job, wanted)
        if known is not None:
            self._exports[cell.cell_id] = (key, known)

    def _bring(self) -> None:
        """Put exports that have arrived into the cache, and send the work that waited for them."""
        arrived = {key: promise for key, promise in self._exports.values() if key in self._waiting and promise.done()}
        for key, promise in arrived.items():
            answer = promise.result()
            for made, content in answer.value or ():
                if content is not None:
                    moving.unpack(content, made, self._workshop.cache)
            cells = self._waiting.pop(key)
            if self._artifacts.find(key) is not None:
                for cell in cells:
                    self._send(cell, key)

    def _begin_late(self, cell: Cell) -> None:
        """Send the work of a cell whose artifact was exported here just now."""
        for key, cells in list(self._waiting.items()):
            if cell in cells and self._artifacts.find(key) is not None:
                for one in self._waiting.pop(key):
                    self._send(one, key)

    def _send(self, cell: Cell, key: str) -> None:
        """Send all of a cell that is done by inferring."""
        wanted = self._of_target(cell)
        chosen = images_of(self._workshop)
        self._outputs[cell.cell_id] = self._help.send(self._job(cell, "infer", chosen, artifact=key), wanted)
        shards = shards_of(self._workshop.images(cell).images, cell)
        jobs = [self._job(cell, "predict", shard, artifact=key) for shard in shards]
        self._shards[cell.cell_id] = [self._help.send(job, wanted) for job in jobs]

    def _job(self, cell: Cell, work: str, images: Sequence[Image], **own: Any) -> Job:
        workshop = self._workshop
        data = workshop.dataset
        return Job(
            work=work,
            harness=tags.harness(),
            house=self._house,
            task=workshop.task.name,
            cell=cell,
            sweep=workshop.sweep,
            checkpoint=workshop.checkpoints[cell.model],
            dataset=replace(data, images=tuple(images), boxes=data.boxes[:0]),
            token=depot.token(workshop.cache),
            **own,
        )

    def _value(self, cell: Cell, what: str, promises: Sequence[Promise[Answer]]) -> list[Any]:
        """What jobs of a cell gave, noting who did them.  Raises CellProblem where one of them has a problem."""
        answers = [promise.result() for promise in promises]
        problem = next((answer.problem for answer in answers if answer.problem is not None), None)
        if problem is not None:
            raise problem
        machines = dict(sorted(Counter(answer.machine for answer in answers).items()))
        self._workshop.note(SCOPE, {f"{what} of {cell.cell_id}": machines})
        return [answer.value for answer in answers]


def shards_of(images: Sequence[Image], cell: Cell) -> list[Sequence[Image]]:
    """Images in shards of whole batches: at most `SHARDS`, each of `SHARD_IMAGES` or more but the last."""
    batches = batches_of(images, cell)
    size = max(-(-SHARD_IMAGES // cell.batch), -(-len(batches) // SHARDS))
    return [images[start * cell.batch : (start + size) * cell.batch] for start in range(0, len(batches), size)]


def _house(workshop: Workshop) -> Parcel:
    """The run's matrices and guest, packed, in the cache.  Raises UsageError where that cannot be written."""
    archive = houses.pack(workshop.matrix.directory, workshop.matrix.guest)
    sha256 = hashlib.sha256(archive).hexdigest()
    path: Path = workshop.cache / depot.FOLDER / sha256 / "house.zip"
    try:
        with locked(path.parent), replacing(path) as sink:
            sink.write(archive)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --cache") from error
    return Parcel(sha256, path)

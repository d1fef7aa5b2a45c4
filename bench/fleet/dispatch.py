"""A run's work for a cluster: which jobs there are of its cells, when they can begin, and what they gave.

A cell's images are cut into shards at the borders of its batches, so that every image is inferred in the same batch as
by one process; what is decoded of them is joined in order of images, and scored here as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from bench.fleet.jobs import Answer, Job, Unread
from bench.fleet.small import Told
from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure import exporting
from bench.measure.elsewhere import movable
from bench.measure.evaluation import batches_of
from bench.measure.instruments.parity import images_of
from bench.measure.timing import memories, warn_of, without_reference
from bench.measure.window import windows
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, UsageError
from bench.store.facts import DISTURBED
from bench.store.tables import TIMED_ON
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

    def __init__(self, client: Client, time_on: Sequence[str] = ()) -> None:
        """Nothing is sent before `begin`; times are taken on workers that have one of these tags, if there are any."""
        self._client = client
        self._asked = list(time_on)
        self.times = bool(self._asked)
        self._crew: Crew | None = None
        self._places: dict[str, str] = {}
        self._free: dict[str, dict[str, int]] = {}
        self._timed_before: set[str] = set()
        self._exports: dict[str, tuple[str, Promise[Answer]]] = {}
        self._waiting: dict[str, list[Cell]] = {}
        self._sent: set[str] = set()
        self._outputs: dict[str, Promise[Answer]] = {}
        self._shards: dict[str, list[Promise[Answer]]] = {}

    # -- what a session asks ---------------------------------------------------------------------------------------

    def meet(self, workshop: Workshop, cells: Sequence[Cell], absent: Collection[str]) -> None:
        """See `Elsewhere`: one machine times all cells whose PyTorch FP32 is on the same target."""
        self._workshop = workshop
        self._crew = Crew(self._client, workshop.cache, workshop.environments)
        self._artifacts = Artifacts(workshop.cache, workshop.environments)
        self._house = _house(workshop)
        matrix, workers = workshop.matrix, self._crew.workers()
        references = dict.fromkeys(matrix.reference_target(cell.target) for cell in cells)
        machines = {name: timekeeper(workers, self._asked, name) for name in references}
        for cell in cells:
            having = dict.fromkeys(tags.id_of(one) for one in workers if tags.of_target(cell.target) in one)
            place = ""
            if movable(matrix.targets[cell.target]):
                if self.times:
                    place = machines[matrix.reference_target(cell.target)]
                elif cell.target in absent and cell.option.making.device is None:
                    place = next(iter(having), "")
            self._places[cell.cell_id] = place if place in having else ""

    def begin(self, cells: Sequence[Cell], wanted: Mapping[str, Collection[str]]) -> None:
        """Send the exports that are not in the cache, and the images of all cells whose artifact is."""
        self._wanted = {cell.cell_id: frozenset(wanted[cell.cell_id]) for cell in cells}
        for cell in cells:
            if self._help.able(self._of_target(cell)):
                self._begin(cell)
        self._help.give_out()

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

    def looks(self, cell: Cell) -> bool:
        """See `Elsewhere`."""
        return bool(self._place(cell))

    def look(self, cell: Cell, wanted: Collection[str]) -> bool:
        """See `Elsewhere`."""
        place = self._place(cell)
        if not place:
            return False
        workshop = self._workshop
        artifact = workshop.artifact(cell).key
        self._begin_late(cell)
        if cell.cell_id not in self._sent:  # no worker with its target was seen when the run began
            self._send(cell, artifact)
        job = self._job([cell], "look", images_of(workshop)[:1], artifacts=(artifact,), machine=place,
                        instruments=tuple(wanted))  # fmt: skip
        [promise] = self._help.send([job], self._on(place, [cell]))
        with workshop.progress.timed(cell.id, "load on a worker", "load"):
            self._help.wait([promise], self._on(place, [cell]), lambda _: self._bring())
        told: Told = self._value(cell, "footprint", [promise])[0]
        workshop.note_emulated(cell, told.emulated)
        self._free[place] = dict(told.free)
        self._keep(told)
        return True

    def why_untimed(self, cell: Cell) -> str:
        """See `Elsewhere`."""
        name = self._workshop.matrix.targets[cell.target].name
        place = self._place(cell)
        if self.times and not place:
            asked = " or ".join(self._asked)
            return f"{name}: no worker with {asked} that can be sent this has it, so that nobody takes its times."
        if not self.times and place:
            return (
                f"{name}: it is on a worker and not on this machine, so results are checked there; times of another "
                f"machine are taken where they are asked for: --time-on {tags.of_target(cell.target)}."
            )
        return ""

    def rest(self) -> None:
        """See `Elsewhere`."""
        if self._crew is not None:
            self._crew.release()

    def time(self, cells: Sequence[Cell]) -> dict[str, CellProblem]:
        """See `Elsewhere`: every window goes whole to a worker of the machine that times its cells."""
        workshop = self._workshop
        references = {cell.cell_id: workshop.matrix.reference_of(cell).cell_id for cell in cells}
        problems = without_reference(references)
        sent: dict[Promise[Answer], list[Cell]] = {}
        for place in dict.fromkeys(self._place(cell) for cell in cells):
            own = {cell.cell_id: cell for cell in cells if self._place(cell) == place}
            own = {name: cell for name, cell in own.items() if name not in problems}
            shares = memories(workshop, own, self._free.get(place, {}))
            for names in windows({name: references[name] for name in own}, *shares):
                window = [own[name] for name in names]
                [promise] = self._help.send([self._window(window, place)], self._on(place, window))
                sent[promise] = window
        stored: set[Promise[Answer]] = set()

        def keep(_done: int) -> None:
            for promise, window in sent.items():
                if promise.done() and promise not in stored:
                    stored.add(promise)
                    problems.update(self._timed(promise.result(), window))

        with workshop.progress.timed("", f"latency of {len(cells)} cells, on workers", "latency"):
            for promise, window in sent.items():
                self._help.wait([promise], self._on(self._place(window[0]), window), keep)
        return problems

    def end(self) -> None:
        """Leave nothing behind on the workers: the run is over, or was stopped."""
        if self._crew is not None:
            self._crew.stop()

    # -- private ---------------------------------------------------------------------------------------------------

    @property
    def _help(self) -> Crew:
        assert self._crew is not None, "the session has begun, and does not rest yet"
        return self._crew

    def _place(self, cell: Cell) -> str:
        """The id of the machine that measures what of a cell is of a machine; empty where this one does."""
        return self._places[cell.cell_id]

    def _on(self, place: str, cells: Iterable[Cell]) -> list[str]:
        """The tags of workers on a machine that have what these cells need."""
        return [tags.of_id(place), *dict.fromkeys(tags.of_target(cell.target) for cell in cells)]

    def _window(self, cells: Sequence[Cell], place: str) -> Job:
        store, keys = self._workshop.store, tuple(self._workshop.artifact(cell).key for cell in cells)
        known = ("peak_rss_bytes", "gpu_bytes")
        rows = {cell.cell_id: {name: store.row(cell).get(name) for name in known} for cell in cells}
        images = images_of(self._workshop)[:1]
        return self._job(cells, "time", images, artifacts=keys, machine=place, rows=rows)

    def _timed(self, answer: Answer, cells: Sequence[Cell]) -> Mapping[str, CellProblem]:
        """Store what came of a window; why some of its cells have no latency."""
        if answer.problem is not None:
            return {cell.cell_id: answer.problem for cell in cells}
        told: Told = answer.value
        workshop = self._workshop
        workshop.note(SCOPE, {f"latency of {cell.cell_id}": {answer.machine: 1} for cell in cells})
        # A reference that an earlier window has timed stays as it is.
        self._keep(
            replace(told, columns={name: told.columns[name] for name in told.columns.keys() - self._timed_before})
        )
        self._timed_before |= told.columns.keys()
        disturbed = json.loads(told.facts.get(DISTURBED, "[]"))
        workshop.store.note_disturbed(disturbed)
        warn_of(workshop, cells, disturbed)
        return told.problems

    def _keep(self, told: Told) -> None:
        """Put what a worker's small run has stored into this run's tables."""
        store = self._workshop.store
        first = store.next_window
        store.update_all(told.columns)
        if told.turns:
            store.add_turns([replace(turn, window=first + turn.window) for turn in told.turns])
            launches = [replace(launch, window=first + launch.window) for launch in told.launches]
            store.write_launches([*store.timed, *launches])
        facts: dict[str, dict[str, Any]] = {}
        here = f"{TIMED_ON}{machine.machine_id()}"
        for (scope, key), value in told.facts.items():
            # Of a machine like this one the run says everything itself.
            if not scope.startswith(here) and (scope, key) != DISTURBED:
                facts.setdefault(scope, {})[key] = value
        for scope, found in facts.items():
            store.add_environment(scope, found)

    def _of_target(self, cell: Cell) -> list[str]:
        return [tags.of_target(cell.target)]

    def _export_tags(self, cell: Cell) -> list[str]:
        """Who makes the artifact that this machine would: any of its platform, or its like where more goes into it."""
        spec = cell.option.making
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
            job = self._job([cell], "export", (), weights=weights, calibration=tuple(map(Parcel.of, images)))
            [known] = self._help.send([job], wanted)
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
        if arrived:
            self._help.give_out()

    def _begin_late(self, cell: Cell) -> None:
        """Send the work of a cell whose artifact was exported here just now."""
        for key, cells in list(self._waiting.items()):
            if cell in cells and self._artifacts.find(key) is not None:
                for one in self._waiting.pop(key):
                    self._send(one, key)

    def _send(self, cell: Cell, key: str) -> None:
        """Send all of a cell that is done by inferring."""
        self._sent.add(cell.cell_id)
        wanted = self._of_target(cell)
        if "parity" in self._wanted[cell.cell_id]:
            chosen = images_of(self._workshop)
            [promise] = self._help.send([self._job([cell], "infer", chosen, artifacts=(key,))], wanted)
            self._outputs[cell.cell_id] = promise
        if "accuracy" in self._wanted[cell.cell_id]:
            shards = shards_of(self._workshop.images(cell).images, cell)
            jobs = [self._job([cell], "predict", shard, artifacts=(key,)) for shard in shards]
            self._shards[cell.cell_id] = self._help.send(jobs, wanted)

    def _job(self, cells: Sequence[Cell], work: str, images: Sequence[Image], **own: Any) -> Job:
        workshop = self._workshop
        data = workshop.dataset
        return Job(
            work=work,
            run=self._help.run,
            harness=tags.harness(),
            house=self._house,
            task=workshop.task.name,
            cells=tuple(cells),
            sweep=workshop.sweep,
            checkpoints={cell.model: workshop.checkpoints[cell.model] for cell in cells},
            dataset=replace(data, images=tuple(images), boxes=data.boxes[:0], source=Unread()),
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


def timekeeper(workers: Sequence[frozenset[str]], asked: Sequence[str], target: str) -> str:
    """The id of the machine whose workers have the first of some tags and a target; empty where none has.

    `workers` holds the tags of each.  Raises UsageError where several machines have that tag.
    """
    for tag in asked:
        fitting = [one for one in workers if {tag, tags.of_target(target)} <= one]
        machines = dict.fromkeys(tags.id_of(one) for one in fitting)
        if len(machines) > 1:
            shown = "; ".join(dict.fromkeys(tags.shown(one) for one in fitting))
            raise UsageError(
                f"--time-on {tag}: {len(machines)} different machines have it, and times of different machines cannot "
                f"be compared; name one of them: {shown}"
            )
        if machines:
            return next(iter(machines))
    return ""


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

"""What cells predict of the images: one cell alone, or the cells of a time window in one pass with their timing.

In a window the cells of a round infer the same images from the same prepared arrays, and what gives the accuracy is
what is timed.  Nothing is decoded while anybody is timed: that is done after each turn, when all guests rest, so that
the raw outputs of one turn are all that is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.grid.matrix import Cell
from bench.measure.fitted import Prepared, prepared
from bench.measure.outfit import Outfit
from bench.measure.unscored import Unscored
from bench.measure.workshop import Workshop
from bench.tasks.datafile import CHANNELS
from bench.tasks.dataset import Image
from bench.tasks.task import AnyTask, Outputs, Tensor
from bench.wall.worker import Timing, Worker

_READERS = 2
"""Images that are prepared at once, between two rounds."""
_HELD_BYTES = 2**29
"""Prepared images at most for one turn of a cell, whose raw outputs take about as much again."""

Batch = Sequence[Image]


class Evaluation:
    """The images that a window's cells have still to infer, and what they predict: `Inputs` of a `Window`.

    `found` holds what the task decodes, by cell, of the cells whose accuracy is wanted: on disk, but for a few images.
    Of a run that is gone on with, what all of those predicted before is not inferred again.
    """

    def __init__(
        self,
        workshop: Workshop,
        cells: Mapping[str, Cell],
        found: Mapping[str, Unscored],
        guest_of: Callable[[str], Worker],
    ) -> None:
        """`cells` infer the images, and `found` takes up what those of them predict that are to be scored.

        `guest_of` gives a cell's guest, also of the window's others, which are timed on what they were given last.
        """
        self.found = found
        self._workshop = workshop
        self._cells = cells
        self._guest_of = guest_of
        done = set.intersection(*(one.done for one in found.values())) if found else set[int]()
        # The same for every cell: turns of a round are alike, or could not be compared.
        self._left = {name: _undone(batches(workshop, cell), done) for name, cell in cells.items()}
        self._ready: dict[str, list[Batch]] = {}
        self._prepared: dict[tuple[int, int], Prepared] = {}
        self._undecoded: list[tuple[str, Batch, Outputs]] = []

    def left(self, names: Collection[str]) -> int:
        """Batches that one of these cells has still to infer: the one that has most."""
        return max((len(self._left[name]) for name in names if name in self._left), default=0)

    def first(self, name: str, guest: Worker) -> bool:
        """Have a guest that has just loaded infer the next batch of its cell, untimed; False where none is left.

        Nobody is timed meanwhile, so it is decoded at once.  Raises CellProblem, and UsageError for an image that is no
        longer what the set was.
        """
        left = self._left.get(name, [])
        if not left:
            return False
        cell, batch = self._cells[name], left[0]
        pairs = [prepared(self._workshop.task, image, cell.imgsz) for image in batch]
        outputs = guest.outputs(assembled(pairs, cell.batch), timeout=self._workshop.deadlines(cell).infer)
        if name in self.found:
            self.found[name].add(decoded(self._workshop.task, batch, pairs, outputs))
        self._left[name] = left[1:]
        return True

    def prepare(self, names: Collection[str], n: int) -> None:
        """Read and prepare the next `n` batches of these cells, each image once a size; those before are let go.

        They are fewer where so many would take more memory than a turn may have.

        Raises UsageError for an image that is no longer what the set was.
        """
        self._ready = {name: self._left[name][: min(n, self._most(name))] for name in names if name in self._left}
        wanted = {
            (self._cells[name].imgsz, image.id): image
            for name, ready in self._ready.items()
            for batch in ready
            for image in batch
        }
        self._prepared = {}  # before others take its place

        def read(item: tuple[tuple[int, int], Image]) -> Prepared:
            (imgsz, _), image = item
            return prepared(self._workshop.task, image, imgsz)

        with ThreadPoolExecutor(_READERS) as readers:
            self._prepared = dict(zip(wanted, readers.map(read, wanted.items()), strict=True))

    def infer(self, name: str, n: int, warmup: int) -> Timing:
        """Time `n` inferences of a cell after `warmup` untimed ones; see `Inputs`.

        Who has several turns in a round infers the same batches in each.  Raises CellProblem.
        """
        guest = self._guest_of(name)
        if name not in self._cells:
            return guest.time(n, warmup)
        cell = self._cells[name]
        deadline = self._workshop.deadlines(cell).infer
        taken: list[Timing] = []
        self._undecoded = []
        part = self._ready[name][: warmup + n]
        fresh = self._left[name][: len(part)] == part
        for place, batch in enumerate(part):
            sample = guest.sample(assembled(self._of(cell, batch), cell.batch), timeout=deadline)
            if place >= warmup:
                taken.append(Timing(np.array([sample.ms]), sample.cpu_s, sample.wall_s, 0))
            if fresh and name in self.found:
                self._undecoded.append((name, batch, sample.outputs))
        if len(taken) < n:
            taken.append(guest.time(n - len(taken), max(0, warmup - len(part))))
        if fresh:
            self._left[name] = self._left[name][len(part) :]
        return Timing(
            np.concatenate([one.samples_ms for one in taken]),
            sum(one.cpu_s for one in taken),
            sum(one.wall_s for one in taken),
            max(one.threads for one in taken),
        )

    def digest(self) -> None:
        """Decode what the turn that is over gave."""
        for name, batch, outputs in self._undecoded:
            pairs = self._of(self._cells[name], batch)
            self.found[name].add(decoded(self._workshop.task, batch, pairs, outputs))
        self._undecoded = []

    def finish(self, name: str) -> None:
        """Evaluate the images of a cell that no round came to, untimed.  Raises CellProblem, UsageError."""
        if left := self._left[name]:
            predict(self._workshop, self._cells[name], self._guest_of(name), left, self.found[name])
            self._left[name] = []

    def whole(self, name: str) -> bool:
        """Whether every image of a cell was inferred and decoded."""
        return len(self.found[name].done) == len(self._workshop.images(self._cells[name]).images)

    def _most(self, name: str) -> int:
        """Batches of a cell that are prepared at once, at least one."""
        cell = self._cells[name]
        return max(1, _HELD_BYTES // (cell.batch * CHANNELS * cell.imgsz**2 * np.dtype(np.float32).itemsize))

    def _of(self, cell: Cell, batch: Batch) -> list[Prepared]:
        return [self._prepared[cell.imgsz, image.id] for image in batch]


def batches(workshop: Workshop, cell: Cell) -> list[Batch]:
    """The images that a cell is evaluated on, in batches of its size; the last may be smaller."""
    return batches_of(workshop.images(cell).images, cell)


def batches_of(images: Batch, cell: Cell) -> list[Batch]:
    """Images in batches of the cell's size; the last may be smaller."""
    return [images[start : start + cell.batch] for start in range(0, len(images), cell.batch)]


def unscored(workshop: Workshop, cell: Cell) -> Unscored:
    """What a cell has predicted and nobody scored yet, of the very artifact.  Raises CellProblem, StoreError."""
    return Unscored(workshop.store.directory, cell.cell_id, workshop.task, workshop.artifact(cell).sha256)


def keep(workshop: Workshop, cell: Cell, images: Batch, outputs: Sequence[Outputs]) -> None:
    """Keep what a cell of single images predicts of some, of which these are the raw outputs, until it is evaluated.

    Those that it is not evaluated on are left out.  Raises CellProblem, StoreError.
    """
    wanted = {image.id for image in workshop.images(cell).images}
    with unscored(workshop, cell) as found:
        for image, output in zip(images, outputs, strict=True):
            if image.id in wanted:
                pairs = [prepared(workshop.task, image, cell.imgsz)]
                found.add(decoded(workshop.task, [image], pairs, output))


def predict(workshop: Workshop, cell: Cell, guest: Worker, wanted: Sequence[Batch], found: Unscored) -> None:
    """Add what the task decodes of some batches to `found`.

    Batches whose images are all there are left out; the others stay as they are, whatever of them is there.
    Raises as `predicted` does, and StoreError.
    """
    for part in predicted(workshop, cell, guest, _undone(wanted, found.done)):
        found.add(part)


def predicted(outfit: Outfit, cell: Cell, guest: Worker, wanted: Sequence[Batch]) -> Iterator[dict[int, Any]]:
    """What the task decodes of each batch, by image id; the next batch is prepared while the guest computes.

    Raises CellProblem where the guest fails, UsageError for an image that is no longer what the set was.
    """
    task, deadline = outfit.task, outfit.deadlines(cell).infer

    def read(batch: Batch) -> list[Prepared]:
        return [prepared(task, image, cell.imgsz) for image in batch]

    with ThreadPoolExecutor(1) as reader:
        upcoming = [reader.submit(read, batch) for batch in wanted[:1]]
        for number, batch in enumerate(wanted):
            pairs = upcoming.pop().result()
            upcoming = [reader.submit(read, following) for following in wanted[number + 1 : number + 2]]
            outfit.progress.phase(cell.id, f"accuracy {number + 1}/{len(wanted)}")
            outputs = guest.outputs(assembled(pairs, cell.batch), timeout=deadline)
            yield decoded(task, batch, pairs, outputs)


def _undone(every: Sequence[Batch], done: Collection[int]) -> list[Batch]:
    """Batches with an image that is not done yet."""
    return [batch for batch in every if not all(image.id in done for image in batch)]


def assembled(pairs: Sequence[Prepared], size: int) -> Tensor:
    """The network's input of a batch; filled up with its last image, since a static batch takes no smaller one."""
    if size == 1:
        return pairs[0][0]
    return np.concatenate([pixels for pixels, _ in [*pairs, *[pairs[-1]] * (size - len(pairs))]])


def decoded(task: AnyTask, batch: Batch, pairs: Sequence[Prepared], outputs: Outputs) -> dict[int, Any]:
    """What the raw outputs of a batch say, by image id."""
    return {
        image.id: task.decode({name: output[place] for name, output in outputs.items()}, geometry)
        for place, (image, (_, geometry)) in enumerate(zip(batch, pairs, strict=True))
    }

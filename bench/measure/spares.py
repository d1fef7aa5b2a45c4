"""Guests that have imported a runtime and loaded nothing, kept so that launches of cells can be forked from them.

To start a process and import a runtime takes seconds where an inference takes milliseconds.  Where a sweep says so
(`forks`), the guest that a cell is characterised in forks before it loads anything.  What it leaves behind is the spare
that every launch of this cell, and of others with the same runtime, environment, threads and CPUs, is forked from in
some milliseconds.  docs/method.md tells how it was shown that this is as good as a new process.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.guest.server import FOLDER
from bench.measure.outfit import Outfit
from bench.progress import Reporter
from bench.reasons import CellProblem
from bench.wall.child import Child
from bench.wall.confinement import CONFINED, Confinement
from bench.wall.worker import Worker

Key = tuple[str, str, int, tuple[int, ...]]


class Spares:
    """The spares of a run."""

    def __init__(self, progress: Reporter) -> None:
        """None is kept yet."""
        self._progress = progress
        self._kept: dict[Key, Worker] = {}

    def of(self, key: Key) -> Worker | None:
        """The spare of some guests; None where there is none."""
        return self._kept.get(key)

    def drop(self, key: Key) -> None:
        """End a spare."""
        if (spare := self._kept.pop(key, None)) is not None:
            spare.close()

    def close(self) -> None:
        """End them all."""
        for key in list(self._kept):
            self.drop(key)

    @contextmanager
    def place(self, key: Key, *, wanted: bool) -> Iterator[tuple[Confinement, Path | None]]:
        """How the guest is confined that a spare is to be forked from, and the folder that it has for that.

        Without a folder where none is wanted or there is one already.  The folder goes where no spare came of it.
        """
        if not wanted or key in self._kept:
            yield CONFINED, None
            return
        folder = Path(tempfile.mkdtemp(prefix=FOLDER))
        try:
            yield Confinement(writable=(folder,)), folder
        finally:
            if key not in self._kept:
                shutil.rmtree(folder, ignore_errors=True)

    def keep(self, key: Key, guest: Worker, folder: Path) -> None:
        """Have a guest that has loaded nothing leave a spare behind; without one, launches are new processes."""
        spare = Child(guest, folder)
        try:
            spare.start()
        except CellProblem as problem:
            self._progress.message(f"launches of {key[0]} are new processes, which takes longer: {problem}")
        else:
            self._kept[key] = spare


def key_of(outfit: Outfit, cell: Cell, env: Env) -> Key:
    """What guests have in common that can be forked from one."""
    return cell.runtime, str(env.python), cell.threads, tuple(outfit.cpus(cell))


def forks(outfit: Outfit, cell: Cell) -> bool:
    """Whether launches of a cell are forked here, if it is timed.

    On Linux alone, where libraries are made for that; of what runs on a processor, and in the guest's own process.
    """
    target = outfit.matrix.targets[cell.target]
    inside = cell.option.javascript is None and not target.emulator
    return outfit.sweep.latency.forks and sys.platform == "linux" and target.is_processor and target.timed and inside

"""Artifacts of a run exported before it measures, several at a time: nothing is timed meanwhile.

One after another, exporters keep one processor busy and cost most of a first run.  What the cache holds costs nothing.
Left to its own turn is what is built for a device: whoever builds an engine times kernels on it, and is alone there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure.outfit import Outfit
from bench.reasons import CellProblem
from bench.wall.artifacts import Artifact, ExportRequest
from bench.wall.process import kill_all

_BYTES = 4 << 30
"""Free memory that an exporter is counted on to take: TensorFlow's fill about three GiB."""
_MOST = 4
"""Exporters at a time, however large the machine: further ones wait for its disk."""
_PAUSE_S = 0.1


_Made = tuple[Artifact | CellProblem, float]
"""What came of an export, and the seconds it took."""


@dataclass
class _Job:
    """An artifact that the cache lacks: its stages, and the cells that run it."""

    stages: Sequence[ExportRequest]
    cells: list[Cell] = field(default_factory=list)


def export_ahead(outfit: Outfit, cells: Iterable[Cell]) -> None:
    """Export what these cells run, as far as the cache lacks it, and have the outfit keep what came of it.

    A problem is raised where the cell's artifact is asked for.  Nothing happens where only one is lacking, or the
    machine has no room for two exporters.  Raises UsageError for a file that cannot be read.
    """
    at_once = room()
    cells = [cell for cell in cells if cell.option.making.device is None]
    if at_once < 2 or len(cells) < 2:
        return
    jobs = list(_lacking(outfit, cells).values())
    if len(jobs) < 2:
        return
    outfit.environments.variables()  # makes folders that exporters share, before several ask for them
    at_once = min(at_once, len(jobs))
    text = f"export of {len(jobs)} artifacts, {at_once} at a time"
    forking = outfit.forking(job.stages for job in jobs)
    with outfit.progress.timed("", text, "export"), forking, _exporters(outfit, at_once) as ask:
        waiting = {ask(job): job for job in jobs}
        for done, future in enumerate(as_completed(waiting), 1):
            (made, seconds), takers = future.result(), waiting[future].cells
            outfit.use({cell.cell_id: made for cell in takers})
            outfit.progress.took(takers[0].id, "export", seconds)
            outfit.progress.phase("", f"{text}: {done} done")


def room() -> int:
    """How many exporters this machine has processors and memory for at a time."""
    memory = psutil.virtual_memory().available // _BYTES
    return min(_MOST, len(machine.available_cpus()), memory)


def _lacking(outfit: Outfit, cells: Iterable[Cell]) -> dict[str, _Job]:
    """What is to be exported, by its content address; the environments for it are there once this returns."""
    jobs: dict[str, _Job] = {}
    for cell in cells:
        try:
            with outfit.progress.timed(cell.id, "environment of its exporter", "environment"):
                stages = outfit.stages(cell)
                address = outfit.lacks(stages)
        except CellProblem as problem:
            outfit.use({cell.cell_id: problem})
            continue
        if address is not None:
            jobs.setdefault(address, _Job(stages)).cells.append(cell)
    return jobs


@contextmanager
def _exporters(outfit: Outfit, number: int) -> Iterator[Callable[[_Job], Future[_Made]]]:
    """What asks for an export, by threads that each wait for one; whatever interrupts them ends the exporters too."""
    asked: list[Future[_Made]] = []

    def ask(job: _Job) -> Future[_Made]:
        asked.append(pool.submit(_export, outfit, job))
        return asked[-1]

    with ThreadPoolExecutor(number, thread_name_prefix="export") as pool:
        try:
            yield ask
        except BaseException:  # Ctrl-C too
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in asked):
                kill_all()  # again, for one that was just being started
                time.sleep(_PAUSE_S)
            raise


def _export(outfit: Outfit, job: _Job) -> _Made:
    """What came of an export, and the seconds it took.  Raises UsageError."""
    started = time.monotonic()
    made: Artifact | CellProblem
    try:
        made = outfit.export(job.stages)
    except CellProblem as problem:
        made = problem
    return made, time.monotonic() - started

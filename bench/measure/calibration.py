"""Calibration of the harness: its guests and the vendors' own tools time the same artifacts, turn by turn.

A round takes every cell in random order, and in each the guest and its tools, in random order again, each as a fresh
process on the same CPUs, memory and input.  The log ratio of the medians of guest and tool in one round is one
observation.  How many rounds there are is fixed by the time, never by what they show.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench.grid import machine
from bench.grid.matrix import REFERENCE_OPTION, Cell
from bench.grid.request import Grid, Request, expand
from bench.measure import tools
from bench.measure.contestants import make_side
from bench.measure.expectation import expected, require
from bench.measure.outfit import Outfit
from bench.measure.pairs import Side
from bench.measure.prepare import ingredients
from bench.measure.quiet import machine_lock
from bench.measure.tools import WARMUP, Job, Reading, Tool
from bench.progress import Reporter
from bench.reasons import CellProblem, UsageError
from bench.stats.contrast import LAUNCHES_MIN
from bench.store.calibration import GUEST, Turn
from bench.tasks.task import Tensor
from bench.wall import program
from bench.wall.worker import Worker

SEED = 20260301
TURN_S, RUNS_MIN, RUNS_MAX = 1.5, 20, 400
"""Seconds of inferences in a turn, and how many that is at least and at most."""


@dataclass(frozen=True)
class Subject:
    """A cell that is ready to be timed: its guest has been looked at once, and took `first_ms` for an inference."""

    cell: Cell
    side: Side
    tools: Sequence[Tool]
    x: Tensor
    job: Job
    first_ms: float
    version: str

    def facts(self) -> dict[str, Any]:
        """What is stored of it beside its turns."""
        return {
            "version": self.version,
            "artifact_sha256": self.side.spec["manifest"].get("sha256", ""),
            "lock_sha256": self.side.env.lock_sha256,
            "runs": self.job.runs,
        }

    def told(self) -> list[tuple[str, str, str]]:
        """Option, tool and what the tool's time includes, for each tool."""
        return [(self.cell.option.id, tool.name, tool.times) for tool in self.tools]


class Calibration:
    """The cells of a request, and what guests and tools found of them in `turns`."""

    def __init__(self, request: Request, progress: Reporter, *, huge: bool) -> None:
        """`huge` puts the memory of guests and tools on huge pages.

        Raises UsageError for a selection of which no cell can be calibrated here, wrong data or a wrong checkpoint.
        """
        self.turns: list[Turn] = []
        self.problems: dict[str, CellProblem] = {}
        self.subjects: dict[str, Subject] = {}
        self._progress = progress
        self._huge = huge
        grid = expand(request)
        self._cells = _calibrated(grid, progress)
        self._outfit = Outfit(ingredients(request, grid, progress))
        self._started = self._seconds = 0.0
        self._shuffle = random.Random(SEED)  # noqa: S311 - an order of turns, repeatable on purpose

    def run(self, seconds: float, rounds: int | None = None) -> None:
        """Fill `turns` until another round would not fit into `seconds`, or with as many `rounds` as are asked for.

        A cell of which a guest or a tool fails costs itself alone; `problems` says why, and its turns are dropped.
        """
        with TemporaryDirectory(prefix="bench-calibration-") as folder:
            self._progress.expect(len(self._cells))
            for cell in self._cells:
                with self._costing(cell):
                    self.subjects[cell.id] = self._prepare(cell, Path(folder))
                self._progress.advance()
            with machine_lock(self._progress):
                self._started, done = time.time(), 0
                while self._going() and self._fits(done, seconds, rounds):
                    self._progress.expect(1)
                    self._round(done)
                    self._progress.advance()
                    done += 1
        self._seconds = time.time() - self._started
        self.turns = [turn for turn in self.turns if turn.cell in self._going()]

    def facts(self) -> dict[str, Any]:
        """The circumstances of a `run`, ready for JSON."""
        fingerprint = machine.fingerprint(self._outfit.matrix.targets.values())
        return {
            "machine": machine.short_name(fingerprint),
            "fingerprint": fingerprint,
            "commit": machine.commit(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": round(self._seconds, 1),
            "pages": "huge" if self._huge else "ordinary",
            "cells": {name: self.subjects[name].facts() for name in self._going()},
            "tools": sorted({told for name in self._going() for told in self.subjects[name].told()}),
        }

    def _going(self) -> list[str]:
        """Cells that have not failed."""
        return [name for name in self.subjects if name not in self.problems]

    def _fits(self, done: int, seconds: float, rounds: int | None) -> bool:
        """Whether another round is taken: a mean one must fit into what is left."""
        if rounds is not None:
            return done < rounds
        return done < LAUNCHES_MIN or (time.time() - self._started) * (done + 1) / done <= seconds

    def _round(self, number: int) -> None:
        names = self._going()
        for name in self._shuffle.sample(names, len(names)):
            subject = self.subjects[name]
            contestants = [None, *subject.tools]
            with self._costing(subject.cell):
                for order, tool in enumerate(self._shuffle.sample(contestants, len(contestants))):
                    called = tool.name if tool else GUEST
                    self._progress.phase(name, f"round {number + 1}: {called}")
                    found = self._tool(subject, tool) if tool else self._guest(subject)
                    turn = Turn(name, called, number, order, found.median_ms, found.inner_ms, found.runs)
                    self.turns.append(turn)

    @contextmanager
    def _costing(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except CellProblem as problem:
            self.problems[cell.id] = problem
            self._progress.message(f"{cell.id}: {problem}")

    def _prepare(self, cell: Cell, folder: Path) -> Subject:
        """Export, write the input, and have a guest say what it runs and how long that takes."""
        outfit, deadlines = self._outfit, self._outfit.deadlines(cell)
        side = make_side(GUEST, outfit, cell, huge=self._huge)
        x = np.repeat(outfit.input([0], cell.imgsz), cell.batch, axis=0)
        file = folder / f"{cell.id.replace('/', '-')}.npy"
        np.save(file, x)
        with self._progress.timed(cell.id, "a first look"), self._worker(cell, side) as guest:
            guest.load(side.spec, timeout=deadlines.load)
            guest.outputs(x, timeout=deadlines.infer)
            first = float(np.median(guest.time(WARMUP).samples_ms))
            attested = guest.stats(attest=True, timeout=5 * deadlines.infer).attested
        require(cell, expected(cell, outfit.matrix.targets[cell.target]), attested)
        runs = min(max(round(TURN_S * 1e3 / first), RUNS_MIN), RUNS_MAX)
        model = Path(side.spec["artifact_dir"]) / side.spec["manifest"]["entry"]
        job = Job(cell, model, file, runs)
        return Subject(cell, side, tools.of(cell), x, job, first, str(attested.get("version", "")))

    def _guest(self, subject: Subject) -> Reading:
        deadlines = self._outfit.deadlines(subject.cell)
        with self._worker(subject.cell, subject.side) as guest:
            guest.load(subject.side.spec, timeout=deadlines.load)
            guest.outputs(subject.x, timeout=deadlines.infer)
            timing = guest.time(subject.job.runs, warmup=WARMUP - 1)  # the one before was untimed too
        return Reading(float(np.median(timing.samples_ms)), len(timing.samples_ms))

    def _tool(self, subject: Subject, tool: Tool) -> Reading:
        cell, side = subject.cell, subject.side
        said = program.run(
            side.env,
            tool.program,
            tool.arguments(subject.job),
            variables=side.variables,
            threads=cell.threads,
            cpus=self._outfit.cpus(cell),
            # As a guest's: a slow machine is measured as slow, and only a hang is ended.
            timeout=self._outfit.deadlines(cell).load + max(60.0, 20 * subject.job.runs * subject.first_ms / 1e3),
        )
        return tool.read(subject.job, said)

    def _worker(self, cell: Cell, side: Side) -> Worker:
        cpus = self._outfit.cpus(cell)
        return Worker(side.env.python, side.adapter, variables=side.variables, threads=cell.threads, cpus=cpus)


def _calibrated(grid: Grid, progress: Reporter) -> list[Cell]:
    """Cells that have a tool and can run here; those that have none are told.  Raises UsageError where none is left.

    PyTorch FP32, which comes with every selection, only where its option was selected.
    """
    selected = grid.sweep.options
    wanted = [cell for cell in grid.cells if not cell.is_reference or {REFERENCE_OPTION, "*"} & set(selected)]
    kept: list[Cell] = []
    without: list[Cell] = []
    for cell in wanted:
        target, available = grid.matrix.targets[cell.target], len(machine.available_cpus())
        if target.device != "cpu" or target.emulator or not machine.detect(target).found:
            continue
        if cell.threads > available:
            raise UsageError(f"--threads {cell.threads}: as many CPUs are needed; this process may use {available}")
        (kept if tools.of(cell) else without).append(cell)
    if without:
        progress.message(f"No tool to hold these against: {', '.join(cell.id for cell in without)}")
    if not kept:
        names = [option.id for option in grid.matrix.options.values() if tools.for_runtime(option.runtime)]
        raise UsageError(
            "nothing to calibrate: no cell of the selection runs on this processor and has a tool to be held against; "
            f"options that have one: {', '.join(names)}"
        )
    return kept

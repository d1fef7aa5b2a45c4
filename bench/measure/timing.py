"""The latency part of a run: guests of a time window are launched together, interleaved, attested, launched anew."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

import psutil

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.measure.instruments.attestation import check_attestation
from bench.measure.window import Window, windows
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason
from bench.stats.turns import Summary
from bench.wall.worker import Worker

# Share of the memory that is free when the campaign starts which its guests may fill.
MEMORY_SHARE = 0.6
# Order of turns is random but repeatable; it is stored with every sample.
SEED = 20260101


class Campaign:
    """Times the given cells, which were characterised without a problem."""

    def __init__(self, workshop: Workshop, cells: Sequence[Cell]) -> None:
        """Nothing is started before `run`."""
        self._workshop = workshop
        self._cells = {cell.cell_id: cell for cell in cells}
        self._references = {cell.cell_id: workshop.matrix.reference_of(cell).cell_id for cell in cells}
        self._problems: dict[str, CellProblem] = {}
        self._packages: dict[str, tuple[Env, tuple[str, ...]]] = {}

    def run(self) -> dict[str, CellProblem]:
        """Time every cell; returns why some have no latency, by cell id.  Results go to the workshop's store."""
        timed = {name: cell for name, cell in self._cells.items() if self._references[name] in self._cells}
        for name in self._cells.keys() - timed.keys():
            text = f"The reference {self._references[name]} has no result, so there is nothing to interleave with."
            self._problems[name] = CellProblem(Reason.REFERENCE_FAILED, text)
        rss = {name: int(self._workshop.store.row(cell).get("peak_rss_bytes") or 0) for name, cell in timed.items()}
        budget = int(psutil.virtual_memory().available * MEMORY_SHARE)
        for number, names in enumerate(windows(rss, self._references, budget)):
            self._window(number, names)
        return self._problems

    def _window(self, number: int, names: Sequence[str]) -> None:
        workshop = self._workshop
        cpus = sorted({cpu for name in names for cpu in workshop.cpus(self._cells[name])})
        references = {name: self._references[name] for name in names}
        with ExitStack() as stack:
            guests: dict[str, Worker] = {}

            def launch(name: str) -> Worker:
                if name in guests:
                    self._end(self._cells[name], guests.pop(name))
                guests[name] = self._start(self._cells[name])
                stack.push(guests[name])  # it was entered by _start
                return guests[name]

            window = Window(number, launch, references, workshop.sweep.latency, cpus, SEED)
            try:
                self._rounds(window)
            finally:
                for turns in window.turns.values():
                    workshop.store.add_turns(turns)
                workshop.store.write_turns()
            self._problems.update(window.problems)
            for name in names:
                if name not in window.problems:
                    self._conclude(self._cells[name], guests[name], window)

    def _start(self, cell: Cell) -> Worker:
        """A guest that has loaded the cell's artifact and holds the input that it will be timed on."""
        workshop = self._workshop
        with workshop.progress.timed(cell.id, "latency: start", "latency"), ExitStack() as stack:
            env = workshop.environment(cell.environment)
            self._packages.setdefault(cell.cell_id, (env, env.freeze()))
            guest = stack.enter_context(workshop.guest(cell, env, "latency"))
            deadlines = workshop.deadlines(cell)
            guest.load(workshop.load_spec(cell, workshop.artifact(cell)), timeout=deadlines.load)
            guest.outputs(workshop.input([0] * cell.batch, cell.imgsz), timeout=deadlines.infer)
            stack.pop_all()
        return guest

    def _end(self, cell: Cell, guest: Worker) -> None:
        """Have the very process that was timed say what it ran, then end it.  Raises CellProblem."""
        try:
            check_attestation(self._workshop, cell, guest.stats(attest=True).attested)
        finally:
            guest.close()

    def _rounds(self, window: Window) -> None:
        workshop = self._workshop
        plan = window.plan
        started = time.monotonic()

        def show(launch: int, number: int, name: str) -> None:
            place = f"launch {launch + 1} of at most {plan.max_launches}, round {number % plan.rounds + 1}"
            seconds = f"{time.monotonic() - started:.0f} of {plan.budget_s:.0f} s"
            workshop.progress.phase(self._cells[name].id, f"latency: {place}, {seconds}")

        with workshop.progress.timed("", f"latency of {len(window.turns)} cells, interleaved", "latency"):
            window.run(show)

    def _conclude(self, cell: Cell, guest: Worker, window: Window) -> None:
        """Store a cell's summary, once its last process has said what it ran and its environment is unchanged."""
        workshop = self._workshop
        summary = window.summary(cell.cell_id)
        workshop.store.update(cell, **_columns(summary), latency_stop=window.stop.get(cell.cell_id, ""))
        try:
            self._end(cell, guest)
            env, packages = self._packages[cell.cell_id]
            env.require_unchanged(packages)
        except CellProblem as problem:
            self._problems[cell.cell_id] = problem


def _columns(summary: Summary) -> dict[str, float | int | None]:
    return {
        "latency_p50_ms": summary.p50_ms,
        "latency_p90_ms": summary.p90_ms,
        "latency_p99_ms": summary.p99_ms,
        "latency_ratio": summary.ratio,
        "latency_ratio_low": summary.ratio_low,
        "latency_ratio_high": summary.ratio_high,
        "latency_samples": summary.samples,
        "latency_launches": summary.launches,
        "latency_rounds": summary.rounds,
        "latency_rounds_contaminated": summary.contaminated,
    }

"""The latency part of a run: guests of a time window are started together, interleaved, attested and stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psutil

from bench.characterise import check_attestation
from bench.envs import Env
from bench.latency import Summary, Window, windows
from bench.matrix import Cell
from bench.reasons import CellProblem, Reason
from bench.worker import Worker

if TYPE_CHECKING:
    from bench.session import Session

# Share of the memory that is free when the campaign starts which its guests may fill.
MEMORY_SHARE = 0.6
# Order of turns is random but repeatable; it is stored with every sample.
SEED = 20260101


class Campaign:
    """Times the given cells, which were characterised without a problem."""

    def __init__(self, session: Session, cells: Sequence[Cell]) -> None:
        """Nothing is started before `run`."""
        self._session = session
        self._cells = {cell.cell_id: cell for cell in cells}
        self._references = {cell.cell_id: session.matrix.reference_of(cell).cell_id for cell in cells}
        self._problems: dict[str, CellProblem] = {}
        self._packages: dict[str, tuple[Env, tuple[str, ...]]] = {}

    def run(self) -> dict[str, CellProblem]:
        """Time every cell; returns why some have no latency, by cell id.  Results go to the session's store."""
        timed = {name: cell for name, cell in self._cells.items() if self._references[name] in self._cells}
        for name in self._cells.keys() - timed.keys():
            text = f"The reference {self._references[name]} has no result, so there is nothing to interleave with."
            self._problems[name] = CellProblem(Reason.REFERENCE_FAILED, text)
        rss = {name: int(self._session.store.row(cell).get("peak_rss_bytes") or 0) for name, cell in timed.items()}
        budget = int(psutil.virtual_memory().available * MEMORY_SHARE)
        for number, names in enumerate(windows(rss, self._references, budget)):
            self._window(number, names)
        return self._problems

    def _window(self, number: int, names: Sequence[str]) -> None:
        session = self._session
        with ExitStack() as stack:
            guests: dict[str, Worker] = {}
            for name in names:
                try:
                    guests[name] = self._start(stack, self._cells[name])
                except CellProblem as problem:
                    self._problems[name] = problem
            cpus = sorted({cpu for name in guests for cpu in session.cpus(self._cells[name])})
            plan = session.settings.sweep.latency
            timers = {name: guest.time for name, guest in guests.items()}
            expected = {name: guest.last_inference_ms or 0.0 for name, guest in guests.items()}
            window = Window(number, timers, self._references, plan, cpus, SEED, expected)
            try:
                self._rounds(window)
            finally:
                for turns in window.turns.values():
                    session.store.add_turns(turns)
                session.store.write_turns()
            self._problems.update(window.problems)
            for name in guests.keys() - window.problems.keys():
                self._conclude(self._cells[name], guests[name], window)

    def _start(self, stack: ExitStack, cell: Cell) -> Worker:
        session = self._session
        with session.progress.timed(cell.id, "latency: start"):
            env = session.environment(cell.environment)
            self._packages[cell.cell_id] = env, env.freeze()
            guest = stack.enter_context(session.guest(cell, env, "latency"))
            deadlines = session.deadlines(cell)
            guest.load(session.load_spec(cell, session.artifact(cell)), timeout=deadlines.load)
            # Leaves the input in the guest: what is timed afterwards is this image again and again.
            guest.infer(session.input([0] * cell.batch, cell.imgsz), timeout=deadlines.infer)
        return guest

    def _rounds(self, window: Window) -> None:
        session = self._session
        plan = window.plan
        started = time.monotonic()

        def show(number: int, name: str) -> None:
            seconds = time.monotonic() - started
            text = f"latency: round {number + 1} of at most {plan.max_rounds}, {seconds:.0f} of {plan.budget_s:.0f} s"
            session.progress.phase(self._cells[name].id, text)

        with session.progress.timed("", f"latency of {len(window.timers)} cells, interleaved"):
            window.run(show)

    def _conclude(self, cell: Cell, guest: Worker, window: Window) -> None:
        """Store a cell's summary, once the very process that was timed has said what it ran."""
        session = self._session
        if not window.turns[cell.cell_id]:
            text = "The run was stopped before the cell had a turn."
            self._problems[cell.cell_id] = CellProblem(Reason.INTERRUPTED, text)
            return
        summary = window.summary(cell.cell_id)
        session.store.update(cell, **_columns(summary), latency_stop=window.stop.get(cell.cell_id, ""))
        try:
            env, packages = self._packages[cell.cell_id]
            env.require_unchanged(packages)
            check_attestation(session, cell, guest.stats(attest=True).attested)
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
        "latency_rounds": summary.rounds,
        "latency_rounds_contaminated": summary.contaminated,
    }

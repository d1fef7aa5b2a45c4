"""The latency part of a run: guests of a time window are launched together, interleaved, attested, launched anew.

Cells that are evaluated as well are so by the inferences that are timed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

import psutil

from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure import outfit, scoring
from bench.measure.evaluation import Evaluation, unscored
from bench.measure.launching import Launcher
from bench.measure.quiet import machine_lock
from bench.measure.unscored import Unscored
from bench.measure.window import Window, windows
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason, Status
from bench.stats.launches import Launch, median_interval
from bench.stats.summary import Summary
from bench.stats.turns import Turn, energies
from bench.wall.worker import Worker

# Order of turns is random but repeatable; it is stored with every sample.
SEED = 20260101
# A guest of a target that is bound by the CPU has one thread at work at every moment, however many it has in all.
BUSY_THREADS = 1.0
INTERRUPTED = "interrupted"
"""What stopped a cell that was being timed when the run was, as `latency_stop` says it."""
FAILED = "failed"
"""What stopped a cell whose guest failed while it was timed, or whose accuracy did: its times are no result."""
UNTIMED = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped before the latency of this cell was measured; the rest was.",
    Status.MEASURED,
)
"""What the row of a cell says until it is timed ..."""
NEITHER = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped before the latency of this cell was measured, and its accuracy with it; the rest was.",
    Status.MEASURED,
)
"""... or, where it is evaluated at the same time, until it is."""
_CUT_SHORT = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped while this cell was timed. Its times are of the rounds until then, and the last of its "
    "processes was not asked what it ran; the rest was measured.",
    Status.MEASURED,
)
"""What the row of a cell says as long as it is timed ..."""
_UNSCORED = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped while this cell was timed and evaluated. Its times are of the rounds until then, it has no "
    "accuracy, and the last of its processes was not asked what it ran; the rest was measured.",
    Status.MEASURED,
)
"""... or timed and evaluated ..."""
_PARTLY_EVALUATED = CellProblem(
    Reason.INTERRUPTED,
    "The run was stopped while this cell was timed and evaluated. Its times are of the rounds until then, and so are "
    "its detections, without a mAP, which would be that of another set; the last of its processes was not asked what "
    "it ran; the rest was measured.",
    Status.MEASURED,
)
"""... and where there was still time to store what it had detected."""
_OF_PROCESSES = ("import_ms", "load_ms", "first_inference_ms", "peak_rss_bytes", "device_ms", "device_graph_ms")


class Campaign:
    """Times the given cells, which were characterised without a problem, and evaluates some of them."""

    def __init__(self, workshop: Workshop, cells: Sequence[Cell], evaluated: Collection[str] = ()) -> None:
        """`evaluated` are the ids of those whose accuracy is wanted as well.  Nothing is started before `run`."""
        self._workshop = workshop
        self._unscored = set(evaluated)
        self._unscorable: dict[str, CellProblem] = {}
        self._cells = {cell.cell_id: cell for cell in cells}
        self._references = {cell.cell_id: workshop.matrix.reference_of(cell).cell_id for cell in cells}
        self._problems: dict[str, CellProblem] = {}
        self._processes: dict[str, list[Launch]] = {cell.cell_id: [] for cell in cells}
        self._disturbed: list[str] = []
        self._machine = machine.machine_id()
        self._concluded: set[str] = set()

    def run(self) -> tuple[dict[str, CellProblem], dict[str, CellProblem]]:
        """Time every cell; returns why some have no latency, and why some have no accuracy, by cell id.

        Results go to the workshop's store.  Raises UsageError where the machine cannot be locked against other runs,
        or an image is no longer what the set was.
        """
        self._problems |= without_reference(self._references)
        references = {name: other for name, other in self._references.items() if name not in self._problems}
        timed = {name: self._cells[name] for name in references}
        free = free_bytes(self._workshop, timed.values())
        parts = windows(references, *memories(self._workshop, timed, free))
        for number, names in enumerate(parts, self._workshop.store.next_window):
            with machine_lock(self._workshop.progress):
                self._window(number, names)
        return self._problems, {name: self._problems[name] for name in self._unscored} | self._unscorable

    def _window(self, number: int, names: Sequence[str]) -> None:
        workshop = self._workshop
        cpus = sorted({cpu for name in names for cpu in workshop.cpus(self._cells[name])})
        references = {name: self._references[name] for name in names}
        wanted = self._unscored.intersection(names)
        bound = {name: BUSY_THREADS for name in names if workshop.matrix.targets[self._cells[name].target].cpu_bound}
        watches = {name: gpu.watch for name in names if (gpu := workshop.gpu(self._cells[name])) is not None}
        metered = [name for name in names if workshop.matrix.targets[self._cells[name].target].is_processor]
        meters = dict.fromkeys(metered, workshop.packages.watch) if workshop.packages is not None else {}
        with ExitStack() as stack:
            found = self._opened(wanted, stack)
            cells = {name: self._cells[name] for name in names}

            def first(name: str, guest: Worker) -> bool:
                return evaluation.first(name, guest)

            def keep(turns: Sequence[Turn]) -> None:
                self._keep(window, turns)

            launcher = Launcher(workshop, number, cells, self._processes, stack, first)
            evaluation = Evaluation(workshop, self._inferring(references, found), found, launcher.guest)
            plan, inputs = workshop.sweep.latency, evaluation if found else None
            window = Window(number, launcher.launch, references, plan, cpus, SEED, bound, keep, watches, inputs, meters)
            try:
                self._rounds(window)
                launcher.ask(name for name in names if name not in window.problems)
                for name in sorted(found, key=lambda name: (references[name] != name, names.index(name))):
                    self._score(self._cells[name], evaluation, window)
                self._problems.update(window.problems)
                for name in names:
                    self._conclude(self._cells[name], launcher, window)
            except BaseException:  # Ctrl-C too
                self._cut_short(window, evaluation)
                raise
            finally:
                self._write_launches()
        disturbed = [name for name in names if name in self._disturbed]
        if disturbed:
            self._workshop.store.note_disturbed(disturbed)
            warn_of(self._workshop, [self._cells[name] for name in names], disturbed)

    def _opened(self, wanted: Collection[str], stack: ExitStack) -> dict[str, Unscored]:
        """What cells have predicted until it is scored, written when `stack` is left.

        One whose artifact cannot be had any more, of a run that is gone on with, has no accuracy.
        """
        found = {}
        for name in wanted:
            try:
                found[name] = stack.enter_context(unscored(self._workshop, self._cells[name]))
            except CellProblem as problem:
                self._unscored.remove(name)
                self._not_scored(self._cells[name], problem)
        return found

    def _inferring(self, references: Mapping[str, str], wanted: Collection[str]) -> dict[str, Cell]:
        """Cells of a window that infer the images in their turns: those to be evaluated and what they are held against.

        So do others on processors that share a reference with them: turns of a round are alike, or could not be
        compared.  A device beside the processor would rest whenever an output is fetched, and is timed without.
        """
        through = {references[name] for name in wanted}
        targets = self._workshop.matrix.targets
        return {
            name: self._cells[name]
            for name, reference in references.items()
            if reference in through and targets[self._cells[name].target].is_processor
        }

    def _keep(self, window: Window, turns: Sequence[Turn]) -> None:
        """Write what a round has given, the launches that ended before it, and what its cells amount to so far.

        The row of a reference that an earlier window has concluded stays as it is.
        Whoever is killed then leaves figures behind, and not only what they could be made of.
        """
        store = self._workshop.store
        names = dict.fromkeys(turn.cell_id for turn in turns if turn.cell_id not in self._concluded)
        state = {name: _state(_UNSCORED if name in self._unscored else _CUT_SHORT) for name in names}
        # Before the turns themselves: no turn is on disk then that the figures do not count.
        store.update_all({name: {**self._columns(window.summary(name)), **state[name]} for name in names})
        store.add_turns(turns)
        self._write_launches()

    def _write_launches(self) -> None:
        self._workshop.store.write_launches([one for processes in self._processes.values() for one in processes])

    def _rounds(self, window: Window) -> None:
        workshop = self._workshop
        started = time.monotonic()

        def show(launch: int, number: int, name: str) -> None:
            place = f"launch {launch + 1} of {window.launches[name]}, round {number + 1}"
            workshop.progress.phase(self._cells[name].id, f"latency: {place}, {time.monotonic() - started:.0f} s")

        with workshop.progress.timed("", f"latency of {len(window.turns)} cells, interleaved", "latency"):
            window.run(show)

    def _score(self, cell: Cell, evaluation: Evaluation, window: Window) -> None:
        """Store the accuracy of a cell that had its turns; a problem that leaves it without figures is the window's."""
        name = cell.cell_id
        failed = window.problems.get(name)
        problem = self._evaluate(cell, evaluation, failed)
        if problem is not None:
            if problem.reason is Reason.REFERENCE_FAILED:
                problem = replace(problem, status=Status.MEASURED)  # all but the difference is there
            else:
                window.problems.setdefault(name, problem)
            self._not_scored(cell, problem)
        self._unscored.remove(name)
        self._workshop.store.conclude(cell, failed or problem or _CUT_SHORT)
        evaluation.found[name].remove()

    def _not_scored(self, cell: Cell, problem: CellProblem) -> None:
        self._unscorable[cell.cell_id] = problem
        if cell.is_reference:
            self._workshop.note_failed_reference(cell, problem)

    def _evaluate(self, cell: Cell, evaluation: Evaluation, failed: CellProblem | None) -> CellProblem | None:
        """Store what a cell predicts and the accuracy of that; returns why there is none.

        Images that no round came to, since others needed more launches or the reference failed, are inferred now.  A
        cell that has `failed` before they were through keeps its predictions on those until then.
        """
        name, problem = cell.cell_id, failed
        try:
            with self._workshop.progress.timed(cell.id, "accuracy"):
                if failed is None:
                    evaluation.finish(name)
                if evaluation.whole(name):
                    scoring.score(self._workshop, cell, evaluation.found[name].predictions())
                    return None
        except CellProblem as found:
            problem = found
        if not evaluation.whole(name):
            scoring.keep(self._workshop, cell, evaluation.found[name].predictions())
        return problem

    def _conclude(self, cell: Cell, launcher: Launcher, window: Window) -> None:
        """Store a cell's summary, once its last process has said what it ran and its environment is unchanged.

        Of a reference that is in several windows it is that of the first, unless it fails in another.
        """
        store, name = self._workshop.store, cell.cell_id
        fresh = name not in self._concluded
        if name in window.problems:
            self._sum_up(cell, window, FAILED)
        else:
            summary = self._sum_up(cell, window, window.stop.get(name, ""), store=fresh)
            if fresh and summary is not None and summary.disturbed:
                self._disturbed.append(name)
            try:
                launcher.end(name)
                self._require_reference(cell, summary, window)
            except CellProblem as problem:
                self._problems[name] = problem
            if fresh:
                store.update(cell, **_process_columns(self._processes[name]))
        store.conclude(cell, self._problems.get(name))
        self._concluded.add(name)

    def _sum_up(self, cell: Cell, window: Window, stop: str, *, store: bool = True) -> Summary | None:
        """What a cell's turns amount to; None where it took none.  It is stored, unless not, with what stopped them."""
        if not window.turns[cell.cell_id]:
            return None
        summary = window.summary(cell.cell_id)
        if store:
            energy = _energy_columns(window.turns[cell.cell_id], cell.batch)
            self._workshop.store.update(cell, **self._columns(summary), **energy, latency_stop=stop)
        return summary

    def _columns(self, summary: Summary) -> dict[str, float | int | str | None]:
        return {**_columns(summary), "timed_on": self._machine}

    def _require_reference(self, cell: Cell, summary: Summary | None, window: Window) -> None:
        """Raise CellProblem where a cell has no ratio because its reference failed before both took a turn."""
        reference = self._references[cell.cell_id]
        if reference in window.problems and (summary is None or summary.ratio is None):
            raise CellProblem(
                Reason.REFERENCE_FAILED,
                f"The reference {self._cells[reference].id} failed while it was timed, so that nothing is left to "
                f"interleave this cell with; the rest was measured. {window.problems[reference]}",
                Status.MEASURED,
            )

    def _cut_short(self, window: Window, evaluation: Evaluation) -> None:
        """Store what there is of the cells of a window that was stopped; the last process of each says no more."""
        store = self._workshop.store
        left = [name for name in window.turns if name not in self._concluded]
        for name in left:
            cell = self._cells[name]
            if name in self._unscored and evaluation.whole(name):
                self._score(cell, evaluation, window)
            among_images = name in self._unscored
            kept = among_images and scoring.keep(self._workshop, cell, evaluation.found[name].predictions())
            if name in window.problems:
                store.conclude(cell, window.problems[name])
            elif self._sum_up(cell, window, INTERRUPTED) is not None:
                store.update(cell, **_process_columns(self._processes[name]))
                store.conclude(cell, _PARTLY_EVALUATED if kept else _UNSCORED if among_images else _CUT_SHORT)


def free_bytes(workshop: Workshop, cells: Iterable[Cell]) -> dict[str, int]:
    """Bytes that are free for the guests of some cells here, by the column that tells how many each needs of them."""
    free = {"peak_rss_bytes": psutil.virtual_memory().available}
    gpu = next(filter(None, map(workshop.gpu, cells)), None)
    if gpu is not None and (told := gpu.free_bytes()) is not None:
        free["gpu_bytes"] = told
    return free


def memories(
    workshop: Workshop, cells: Mapping[str, Cell], free: Mapping[str, int]
) -> Iterator[tuple[dict[str, int], int]]:
    """What each cell's guest needs of each kind of memory, with what all may have of it; `free` as `free_bytes` says.

    `cells` are by their ids.
    """
    for column, there in free.items():
        needed = {name: int(workshop.store.row(cell).get(column) or 0) for name, cell in cells.items()}
        yield needed, int(there * outfit.MEMORY_SHARE)


def warn_of(workshop: Workshop, cells: Sequence[Cell], disturbed: Collection[str]) -> None:
    """Say of which cells of a window the times are no result, because the machine was not theirs."""
    names = [cell.id for cell in cells if cell.cell_id in disturbed]
    if not names:
        return
    shown = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
    workshop.progress.message(
        f"WARNING: {len(names)} of {len(cells)} cells were disturbed all along, by other work on their CPUs or "
        f"their GPU, by heat, or by a machine that gives less than a whole one: {shown}. Their times are in the "
        "tables without an interval and decide nothing; measure them again on a quiet machine."
    )


def without_reference(references: Mapping[str, str]) -> dict[str, CellProblem]:
    """Why those of some cells cannot be timed whose reference is not among them; `references` maps cells to theirs."""
    return {
        name: CellProblem(
            Reason.REFERENCE_FAILED, f"The reference {other} has no result, so there is nothing to interleave with."
        )
        for name, other in references.items()
        if other not in references
    }


def _state(problem: CellProblem) -> dict[str, str]:
    """What stands in the row of a cell that may be cut short."""
    return {
        "status": problem.status.value,
        "reason_code": problem.reason.value,
        "reason": problem.text,
        "latency_stop": INTERRUPTED,
    }


def _columns(summary: Summary) -> dict[str, float | int | None]:
    return {
        "latency_p50_ms": summary.p50_ms,
        "latency_p90_ms": summary.p90_ms,
        "latency_p99_ms": summary.p99_ms,
        "latency_ratio": summary.ratio,
        "latency_ratio_low": summary.ratio_low,
        "latency_ratio_high": summary.ratio_high,
        "latency_autocorrelation": summary.autocorrelation,
        "latency_samples": summary.samples,
        "latency_launches": summary.launches,
        "latency_rounds": summary.rounds,
        "latency_rounds_contaminated": summary.contaminated,
    }


def _energy_columns(turns: Sequence[Turn], batch: int) -> dict[str, float | None]:
    """What an image took, in the columns of `cells`; none where GPU or processor told too little."""
    found = energies(turns)
    if not found:
        return {}
    energy = median_interval([joules / batch for joules in found])
    return {"energy_image_j": energy.value, "energy_image_j_low": energy.low, "energy_image_j_high": energy.high}


def _process_columns(launches: Sequence[Launch]) -> dict[str, float | int | None]:
    """What starting a cell's processes took, in the columns of `cells` that tell the same of a single one."""
    columns: dict[str, float | int | None] = {}
    for name in _OF_PROCESSES:
        told = [float(value) for one in launches if (value := getattr(one, name)) is not None]
        if not told:
            continue
        found = median_interval(told)
        kind = int if name == "peak_rss_bytes" else float
        ends = {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        columns |= {column: None if value is None else kind(value) for column, value in ends.items()}
    return columns

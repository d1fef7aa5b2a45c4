"""One run: its cells, and what each instrument made of them.

The pytest suites ask `Session.outcome(cell, instrument)`; the first question about a cell starts its guest once and
takes it through all wanted instruments, its reference first.  Instruments that measure a run together (latency), and
those that join them (accuracy, of cells that are timed), are the exception: the first question about any cell measures
all of them.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from bench.environments import houses
from bench.grid import machine
from bench.grid.matrix import Cell
from bench.measure.identity import identity
from bench.measure.instruments.instrument import RunInstrument, Running, Subject
from bench.measure.instruments.registry import INSTRUMENTS, of_cells, of_runs
from bench.measure.timing import NEITHER, UNTIMED
from bench.measure.workshop import Workshop
from bench.places import IN_CHECKOUT, ROOT
from bench.reasons import CellProblem, Reason, Status
from bench.store.baselines import IDENTITY
from bench.wall import checkpoint as checkpoints


class Session:
    """State of a run.  Not thread-safe: cells are measured one after another on purpose."""

    def __init__(self, workshop: Workshop, cells: Sequence[Cell]) -> None:
        """Record the machine and the ground truth.  Raises StoreError when the results folder cannot be written."""
        self.workshop = workshop
        self.cells = list(cells)
        self.wanted: dict[str, set[str]] = {cell.cell_id: set() for cell in cells}
        self._outcomes: dict[str, dict[str, CellProblem | None]] = {}
        self._presence = {name: machine.detect(target) for name, target in workshop.matrix.targets.items()}
        self._record_machine()
        workshop.store.write("ground_truth", workshop.ground_truth)

    # -- what the suites ask ---------------------------------------------------------------------------------------

    def want(self, cell: Cell, instrument: str) -> None:
        """Say beforehand that a cell will be measured by an instrument; its reference must then be able to answer."""
        self.wanted[cell.cell_id].add(instrument)
        if INSTRUMENTS[instrument].compares:
            self.wanted[self.workshop.matrix.reference_of(cell).cell_id].add(instrument)

    def outcome(self, cell: Cell, instrument: str) -> None:
        """Measure a cell by an instrument, unless that is done already.  Raises CellProblem without a result."""
        self.characterise(cell)
        if instrument not in self._outcomes[cell.cell_id]:
            together = INSTRUMENTS[INSTRUMENTS[instrument].joins or instrument]
            assert isinstance(together, RunInstrument), "the others have measured it by now"
            self._measure_all(together)
        problem = self._outcomes[cell.cell_id][instrument]
        if problem is not None:
            raise problem

    def characterise(self, cell: Cell) -> None:
        """Take a cell through all wanted instruments but those of runs, once; problems are kept as its outcomes."""
        if cell.cell_id in self._outcomes:
            return
        self._characterise_reference(cell)
        store, progress, wanted = self.workshop.store, self.workshop.progress, self.wanted[cell.cell_id]
        outcomes: dict[str, CellProblem | None] = {}
        self._outcomes[cell.cell_id] = outcomes
        store.begin(cell)
        started = time.monotonic()
        try:
            self._require_target(cell)
            for name in self._measured(cell, wanted):
                outcomes[name] = None
                progress.advance(name in wanted)
            waiting = [one for one in of_runs() if one.name in wanted and not one.applies(self.workshop, cell)]
            joining = self._joining(cell)
            store.conclude(cell, NEITHER if joining else UNTIMED if waiting else None)
        except CellProblem as problem:
            # What comes after a failure cannot be reached; it is shown with the same cause.
            for name in INSTRUMENTS:
                if name not in outcomes:
                    outcomes[name] = problem
                    progress.advance(name in wanted)
            store.conclude(cell, problem)
        finally:
            store.add_seconds(cell, time.monotonic() - started)

    def problem(self, cell: Cell) -> CellProblem | None:
        """The first problem of a cell that was characterised, or None; one that leaves it measured is none."""
        found = (problem for problem in self._outcomes[cell.cell_id].values() if problem is not None)
        return next((problem for problem in found if problem.status is not Status.MEASURED), None)

    def finish(self) -> None:
        """Write what only makes sense at the end: rows of cells nobody asked about, and how long it took."""
        store = self.workshop.store
        for cell in self.cells:
            if not self.wanted[cell.cell_id]:
                text = "Left out by the selection on the command line."
                store.conclude(cell, CellProblem(Reason.NOT_SELECTED, text, Status.SKIPPED))
        store.arrange_predictions()
        store.write_turns()
        store.write_metrics()
        store.add_environment("time", {step: round(value, 1) for step, value in self.workshop.progress.spent.items()})

    # -- private ---------------------------------------------------------------------------------------------------

    def _characterise_reference(self, cell: Cell) -> None:
        """Measure what the cell is compared with before it, where anything of it is compared."""
        reference = self.workshop.matrix.reference_of(cell)
        if cell.is_reference or not any(INSTRUMENTS[name].compares for name in self.wanted[cell.cell_id]):
            return
        self.characterise(reference)
        problem = self.problem(reference)
        if problem is not None:
            self.workshop.note_failed_reference(reference, problem)

    def _measured(self, cell: Cell, wanted: set[str]) -> Iterator[str]:
        """Names of the instruments that measured a cell, each once its columns are stored.

        Raises CellProblem at the first that has no result.
        """
        workshop = self.workshop
        subject = Subject(workshop, cell, workshop.artifact(cell))
        workshop.note(IDENTITY, {cell.cell_id: identity(workshop, cell, subject.artifact.key)})
        with ExitStack() as stack:
            for instrument in of_cells(wanted):
                if instrument.joins and instrument.name in self._joining(cell):
                    continue
                if instrument.in_guest and subject.running is None:
                    env = workshop.environment(cell.environment, cell.target)
                    packages = env.freeze()
                    guest = stack.enter_context(workshop.guest(cell, env, "measure"))
                    subject = replace(subject, running=Running(guest, env))
                instrument.measure(subject)
                if subject.running is not None:
                    gpu, guest = workshop.gpu(cell), subject.guest
                    held = None if gpu is None else gpu.held_bytes(guest.pid)
                    workshop.note_process(cell, peak_rss_bytes=guest.stats().peak_rss_bytes, gpu_bytes=held)
                    subject.running.env.require_unchanged(packages)
                yield instrument.name

    def _joining(self, cell: Cell) -> list[str]:
        """Instruments that join one of runs in measuring a cell, whose artifact was loaded.

        None on a device beside the processor: it would rest whenever an output is fetched, and be timed as who rests.
        Of a reference only where all that is compared with it does for sure: what is measured alone needs it before.
        Whether a device other than a CPU is imitated, so that no latency is taken, is not known before the cell's turn.
        """
        if not self.workshop.matrix.targets[cell.target].is_processor:
            return []
        joining = []
        for name in self.wanted[cell.cell_id]:
            run = INSTRUMENTS.get(INSTRUMENTS[name].joins)
            if not isinstance(run, RunInstrument) or run.name not in self.wanted[cell.cell_id]:
                continue
            compared = self._compared_with(cell, name) if cell.is_reference else []
            if not run.applies(self.workshop, cell) and all(self._surely(run, other) for other in compared):
                joining.append(name)
        return joining

    def _compared_with(self, reference: Cell, instrument: str) -> list[Cell]:
        """Other cells that want an instrument, on devices that are here, and whose reference this is."""
        return [
            cell
            for cell in self.cells
            if instrument in self.wanted[cell.cell_id]
            and not cell.is_reference
            and self._presence[cell.target].found
            and self.workshop.matrix.reference_of(cell) == reference
        ]

    def _surely(self, run: RunInstrument, cell: Cell) -> bool:
        """Whether an instrument of runs measures a cell, unless it fails."""
        target = self.workshop.matrix.targets[cell.target]
        return run.name in self.wanted[cell.cell_id] and target.timed and target.cpu_bound and target.is_processor

    def _require_target(self, cell: Cell) -> None:
        """Raise CellProblem when this machine or the option cannot run the cell.

        It is skipped, or exported only where the option's artifact can be made without its target.
        """
        presence = self._presence[cell.target]
        if not presence.found:
            if not cell.option.export.without_target:
                raise CellProblem(Reason.TARGET_ABSENT, presence.text, Status.SKIPPED)
            for _ in self._measured(cell, {"export"}):
                pass
            text = f"Exported, its size is measured; it was not run. {presence.text}"
            raise CellProblem(Reason.TARGET_ABSENT, text, Status.EXPORTED)
        limit = cell.option.batch_max
        if limit is not None and cell.batch > limit:
            text = f"{cell.option.name} takes at most {limit} image{'s' * (limit > 1)} per inference."
            raise CellProblem(Reason.BATCH_UNSUPPORTED, text, Status.SKIPPED)
        available = len(machine.available_cpus())
        if cell.threads > available:
            text = f"{cell.threads} threads need as many CPUs; this process may use {available}."
            raise CellProblem(Reason.TARGET_UNSUPPORTED, text, Status.SKIPPED)

    def _measure_all(self, instrument: RunInstrument) -> None:
        """Measure all cells that want it together, once each of them is characterised."""
        name, workshop = instrument.name, self.workshop
        cells = [cell for cell in self.cells if name in self.wanted[cell.cell_id]]
        for cell in cells:
            self.characterise(cell)
        ready = []
        for cell in cells:
            if self.problem(cell) is not None:
                continue
            if why_not := instrument.applies(workshop, cell):
                self._outcomes[cell.cell_id][name] = CellProblem(Reason.NOT_TIMED, why_not, Status.MEASURED)
            else:
                ready.append(cell)
        joined: defaultdict[str, list[str]] = defaultdict(list)
        for cell in ready:
            for other in self._joining(cell):
                joined[other].append(cell.cell_id)
        problems = instrument.measure_all(workshop, ready, joined)
        for cell in ready:
            names = [name, *(other for other, cells_of in joined.items() if cell.cell_id in cells_of)]
            found = {each: problems.get(each, {}).get(cell.cell_id) for each in names}
            self._outcomes[cell.cell_id] |= found
            workshop.store.conclude(cell, _gravest(found.values()))
            workshop.progress.advance(len(names))

    def _record_machine(self) -> None:
        workshop = self.workshop
        settings, dataset = workshop.settings, workshop.dataset
        options = {cell.option.id: cell.option for cell in self.cells}
        workshop.store.add_environment(
            "run",
            {
                "sweep": settings.sweep_name,
                "sweep_settings": workshop.sweep.model_dump_json(),
                "task": workshop.task.name,
                **checkpoints.told(workshop.checkpoints),
                "model_classes": list(dataset.names.values()),
                "data": dataset.name,
                "data_sha256": dataset.sha256,
                "images": len(dataset.images),
                "data_notes": list(dataset.notes),
                "commit": machine.git_commit(ROOT) if IN_CHECKOUT else "",
                "house": hashlib.sha256(houses.pack(workshop.matrix.directory)).hexdigest(),
                "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "outside_guide": sorted(name for name, option in options.items() if not option.in_guide),
                "option_names": {name: option.name for name, option in options.items()},
            },
        )
        workshop.store.add_environment(
            "machine", machine.fingerprint(workshop.matrix.targets.values(), settings.machine_name)
        )
        workshop.store.add_environment("core", machine.core_versions())
        found = {name: presence.text for name, presence in self._presence.items()}
        workshop.store.add_environment("targets", found)
        workshop.store.update_all(
            {cell.cell_id: {"model_sha256": workshop.checkpoints[cell.model].sha256} for cell in self.cells}
        )


def _gravest(problems: Iterable[CellProblem | None]) -> CellProblem | None:
    """The first that leaves a cell without its figures, else the first that takes only some, else None."""
    found = [problem for problem in problems if problem is not None]
    return next((problem for problem in found if problem.status is not Status.MEASURED), next(iter(found), None))

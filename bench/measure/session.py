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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from bench.environments import houses
from bench.grid import machine
from bench.grid.matrix import Cell, not_benched
from bench.measure import resuming
from bench.measure.ahead import export_ahead
from bench.measure.elsewhere import Elsewhere, movable
from bench.measure.identity import identity
from bench.measure.instruments.accuracy import Accuracy
from bench.measure.instruments.instrument import CellInstrument, RunInstrument, Running, Subject, left_out
from bench.measure.instruments.registry import INSTRUMENTS, of_cells, of_runs
from bench.measure.spares import forks, key_of
from bench.measure.timing import NEITHER, UNTIMED
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem, Reason, Status
from bench.store.facts import CATEGORIES, IDENTITY, SECONDS
from bench.tasks.dataset import Dataset
from bench.wall import checkpoint as checkpoints


class Session:
    """State of a run.  Not thread-safe: cells are measured one after another on purpose."""

    def __init__(self, workshop: Workshop, cells: Sequence[Cell]) -> None:
        """Record the machine and the ground truth.  Raises StoreError when the results folder cannot be written."""
        self.workshop = workshop
        self.cells = list(cells)
        self.wanted: dict[str, set[str]] = {cell.cell_id: set() for cell in cells}
        self._outcomes: dict[str, dict[str, CellProblem | None]] = {}
        self._begun = False
        self.aside: Callable[[], object] = _nothing
        """Waits for the end of what is done beside the exports; nothing is measured before."""
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
        self._begin()
        self._characterise_reference(cell)
        store, progress, wanted = self.workshop.store, self.workshop.progress, self.wanted[cell.cell_id]
        known = resuming.outcomes(self.workshop, cell, wanted, self._joining)
        if known is not None:
            self._outcomes[cell.cell_id] = known
            progress.advance(len(known.keys() & wanted))
            resuming.reopen(self.workshop, cell, NEITHER if set(self._joining(cell)) - known.keys() else UNTIMED)
            return
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
        kept = {} if store.before is None else store.before.rows
        for cell in self.cells:
            if not self.wanted[cell.cell_id] and cell.cell_id not in kept:
                text = "Left out by the selection on the command line."
                store.conclude(cell, CellProblem(Reason.NOT_SELECTED, text, Status.SKIPPED))
        store.arrange_predictions()
        store.write_turns()
        store.write_metrics()
        resuming.tidy(store)
        store.add_environment(SECONDS, resuming.spent(store.before, self.workshop.progress.spent))

    # -- private ---------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Before the first cell, have what may be done before it is measured done: here, or elsewhere."""
        if self._begun:
            return
        self._begun = True
        kept = {} if self.workshop.store.before is None else self.workshop.store.before.rows
        made = [cell for cell in self.cells if cell.option.export is not None]
        new = [cell for cell in made if self.wanted[cell.cell_id] and cell.cell_id not in kept]
        if self.workshop.elsewhere is not None:
            self._begin_elsewhere(self.workshop.elsewhere, made, new)
        else:
            export_ahead(self.workshop, [cell for cell in new if self._is_exported(cell)])
        self.aside()
        self.workshop.progress.begin_steps()

    def _begin_elsewhere(self, elsewhere: Elsewhere, made: Sequence[Cell], new: Iterable[Cell]) -> None:
        """Have whoever works beside this process begin with those `new` cells that are to be inferred.

        What is not known before a cell was loaded stays here: an emulator's, and how many images a target is given.
        """
        targets = self.workshop.matrix.targets
        absent = [name for name, presence in self._presence.items() if not presence.found]
        with self.workshop.progress.timed("", "sending work to the workers", "send"):
            elsewhere.meet(self.workshop, made, absent)
            cells = [
                cell
                for cell in new
                if movable(targets[cell.target])
                and (elsewhere.looks(cell) or (cell.target not in absent and beyond(cell) is None))
            ]
            elsewhere.begin(cells, self.wanted)

    def _is_exported(self, cell: Cell) -> bool:
        """Whether this machine exports a cell's artifact: it is run here, or can be made without its target."""
        if not self._presence[cell.target].found:
            return cell.option.making.without_target
        return beyond(cell) is None

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

        What is of a machine is measured elsewhere where the cell is timed there, or only others have its target.
        Raises CellProblem at the first that has no result.
        """
        workshop = self.workshop
        if workshop.elsewhere is not None:
            workshop.elsewhere.export(cell)
        subject = Subject(workshop, cell, workshop.artifact(cell), evaluated=Accuracy.name in wanted)
        packages: tuple[str, ...] = ()
        looked: bool | None = None
        workshop.note(IDENTITY, {cell.cell_id: identity(workshop, cell, subject.artifact.key)})
        with ExitStack() as stack:
            for instrument in of_cells(wanted):
                if instrument.joins and instrument.name in self._joining(cell):
                    continue
                if instrument.in_guest and looked is None:
                    looked = workshop.elsewhere is not None and workshop.elsewhere.look(cell, wanted)
                if looked and instrument.of_machine:
                    yield instrument.name
                    continue
                if instrument.in_guest and subject.running is None and not looked:
                    env = workshop.environment(cell.environment, cell.target)
                    packages = env.freeze()
                    key, timed = key_of(workshop, cell, env), any(run.name in wanted for run in of_runs())
                    spare = workshop.spares.place(key, wanted=timed and forks(workshop, cell))
                    confinement, place = stack.enter_context(spare)
                    guest = stack.enter_context(workshop.guest(cell, env, "measure", confinement))
                    if place is not None:
                        workshop.spares.keep(key, guest, place)
                    subject = replace(subject, running=Running(guest, env))
                take(instrument, subject, packages)
                yield instrument.name

    def _joining(self, cell: Cell) -> list[str]:
        """Instruments that join one of runs in measuring a cell, whose artifact was loaded.

        None where others work for the run: they infer the images.
        None on a device beside the processor: it would rest whenever an output is fetched, and be timed as who rests.
        Of a reference only where all that is compared with it does for sure: what is measured alone needs it before.
        Whether a device other than a CPU is imitated, so that no latency is taken, is not known before the cell's turn.
        """
        if self.workshop.elsewhere is not None or not self.workshop.matrix.targets[cell.target].is_processor:
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
        if cell.option.export is None:
            raise CellProblem(Reason.FORMAT_ABSENT, not_benched(cell.option), Status.SKIPPED)
        presence, elsewhere = self._presence[cell.target], self.workshop.elsewhere
        if elsewhere is not None and elsewhere.looks(cell):
            return
        if not presence.found:
            if not cell.option.export.without_target:
                raise CellProblem(Reason.TARGET_ABSENT, presence.text, Status.SKIPPED)
            for _ in self._measured(cell, {"export"}):
                pass
            text = f"Exported, its size is measured; it was not run. {presence.text}"
            raise CellProblem(Reason.TARGET_ABSENT, text, Status.EXPORTED)
        problem = beyond(cell)
        if problem is not None:
            raise problem

    def _measure_all(self, instrument: RunInstrument) -> None:
        """Measure all cells that want it together, once each of them is characterised."""
        name, workshop = instrument.name, self.workshop
        cells = [cell for cell in self.cells if name in self.wanted[cell.cell_id]]
        for cell in cells:
            self.characterise(cell)
        cells = [cell for cell in cells if name not in self._outcomes[cell.cell_id]]
        # What was measured before the run was stopped is not measured again, but for references of what was not.
        beside = {self.workshop.matrix.reference_of(cell).cell_id for cell in cells if self.problem(cell) is None}
        cells = [cell for cell in self.cells if cell in cells or cell.cell_id in beside]
        ready = []
        for cell in cells:
            if self.problem(cell) is not None:
                continue
            if why_not := instrument.applies(workshop, cell):
                self._outcomes[cell.cell_id][name] = left_out(why_not)
            else:
                ready.append(cell)
        if workshop.elsewhere is not None:
            workshop.elsewhere.rest()
        joined: defaultdict[str, list[str]] = defaultdict(list)
        for cell in ready:
            for other in self._joining(cell):
                if other not in self._outcomes[cell.cell_id]:
                    joined[other].append(cell.cell_id)
        problems = instrument.measure_all(workshop, ready, joined)
        for cell in ready:
            names = [name, *(other for other, cells_of in joined.items() if cell.cell_id in cells_of)]
            found = {each: problems.get(each, {}).get(cell.cell_id) for each in names}
            workshop.progress.advance(len(found.keys() - self._outcomes[cell.cell_id].keys()))
            self._outcomes[cell.cell_id] |= found
            workshop.store.conclude(cell, _gravest(found.values()))

    def _record_machine(self) -> None:
        workshop = self.workshop
        settings, dataset = workshop.settings, workshop.dataset
        options = {cell.option.id: cell.option for cell in self.cells}
        run: dict[str, Any] = {
            "sweep": settings.sweep_name,
            "sweep_settings": workshop.sweep.model_dump_json(),
            "task": workshop.task.name,
            **checkpoints.told(workshop.checkpoints),
            "model_classes": list(dataset.names.values()),
            "data": dataset.name,
            "data_sha256": dataset.sha256,
            "images": len(dataset.images),
            "data_notes": list(dataset.notes),
            **_official(dataset),
            "commit": machine.commit(),
            "house": hashlib.sha256(houses.pack(workshop.matrix.directory)).hexdigest(),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "outside_guide": sorted(name for name, option in options.items() if not option.in_guide),
            "option_names": {name: option.name for name, option in options.items()},
        }
        facts = {
            "run": run,
            "machine": machine.fingerprint(workshop.matrix.targets.values(), settings.machine_name),
            "core": machine.core_versions(),
            "targets": {name: presence.text for name, presence in self._presence.items()},
        }
        if workshop.store.before is not None:
            resuming.require_same(workshop.store.before, facts)
            run["started"] = workshop.store.before.environment["run", "started"]
            workshop.store.go_on()
        for scope, told in facts.items():
            workshop.store.add_environment(scope, told)
        workshop.store.update_all(
            {cell.cell_id: {"model_sha256": workshop.checkpoints[cell.model].sha256} for cell in self.cells}
        )


def take(instrument: CellInstrument, subject: Subject, packages: tuple[str, ...]) -> None:
    """Have an instrument measure a cell, and note what its process takes, whose environment began with `packages`.

    Raises CellProblem where there is no result, or the environment has changed.
    """
    instrument.measure(subject)
    if subject.running is None:
        return
    workshop, cell, guest = subject.workshop, subject.cell, subject.guest
    gpu = workshop.gpu(cell)
    held = None if gpu is None else gpu.held_bytes(guest.pid)
    workshop.note_process(cell, peak_rss_bytes=guest.stats().peak_rss_bytes, gpu_bytes=held)
    subject.running.env.require_unchanged(packages)


def beyond(cell: Cell) -> CellProblem | None:
    """Why the option or the machine that this is called on cannot run a cell of its size, or None."""
    limit = cell.option.batch_max
    if limit is not None and cell.batch > limit:
        text = f"{cell.option.name} takes at most {limit} image{'s' * (limit > 1)} per inference."
        return CellProblem(Reason.BATCH_UNSUPPORTED, text, Status.SKIPPED)
    available = len(machine.available_cpus())
    if cell.threads > available:
        text = f"{cell.threads} threads need as many CPUs; this process may use {available}."
        return CellProblem(Reason.TARGET_UNSUPPORTED, text, Status.SKIPPED)
    return None


def _official(dataset: Dataset) -> dict[str, Any]:
    """Which official annotations were evaluated on, and their ids of the classes by index; nothing without any."""
    if dataset.annotations is None:
        return {}
    return {"annotations": dataset.annotations.name, CATEGORIES[1]: list(dataset.categories)}


def _nothing() -> None:
    """Wait for nothing."""


def _gravest(problems: Iterable[CellProblem | None]) -> CellProblem | None:
    """The first that leaves a cell without its figures, else the first that takes only some, else None."""
    found = [problem for problem in problems if problem is not None]
    return next((problem for problem in found if problem.status is not Status.MEASURED), next(iter(found), None))

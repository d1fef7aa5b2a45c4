"""Guests of a time window: started for each launch, asked at their end what they ran.

A launch is a process: a new one, or one that is forked from a spare (spares.py), which takes a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.measure.instruments.attestation import check_attestation
from bench.measure.on_device import device_times
from bench.measure.spares import key_of
from bench.measure.workshop import Workshop
from bench.reasons import CellProblem
from bench.stats.launches import Launch
from bench.wall.child import Child
from bench.wall.worker import Loaded, Stats, Worker


@dataclass(frozen=True)
class _Launched:
    """A guest that is being timed, its launch, what that start took, and whether it was forked."""

    guest: Worker
    number: int
    loaded: Loaded
    first_inference_ms: float
    forked: bool


class Launcher:
    """Has a window's guests running."""

    def __init__(
        self,
        workshop: Workshop,
        window: int,
        cells: Mapping[str, Cell],
        processes: Mapping[str, list[Launch]],
        stack: ExitStack,
        first: Callable[[str, Worker], bool],
    ) -> None:
        """`cells` are the window's, by id.  Nothing is started yet.

        To `processes` those are added that have ended, by cell id; what still runs when `stack` is left ends with it.
        `first` has a guest that has loaded infer what its cell is to infer anyway, and says whether there was anything:
        it is `Evaluation.first`.
        """
        self._workshop = workshop
        self._window = window
        self._cells = cells
        self._processes = processes
        self._packages: dict[str, tuple[Env, tuple[str, ...]]] = {}
        self._launches = dict.fromkeys(cells, 0)
        self._running: dict[str, _Launched] = {}
        self._stack = stack
        self._first = first
        self._asked: dict[str, Future[Stats]] = {}
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="asking")
        stack.callback(self._asking.shutdown, wait=False, cancel_futures=True)  # whoever is asked has ended by then

    def launch(self, name: str) -> Worker:
        """The guest of a cell's next launch, ready to be timed.  Raises CellProblem; the cell then has no guest."""
        number, launched = self._launches[name], self._running.pop(name, None)
        self._launches[name] += 1
        if launched is not None:
            self._end(name, launched)
        self._running[name] = self._started(name, number)
        return self._running[name].guest

    def guest(self, name: str) -> Worker:
        """The guest that a cell has, or the next where it has none.  Raises CellProblem."""
        return self._running[name].guest if name in self._running else self.launch(name)

    def ask(self, names: Iterable[str]) -> None:
        """Have these cells' guests say what they ran, one after another, while this process does something else.

        Nobody may be timed meanwhile.  Those on a device beside the processor are asked at their end: it is that
        device's times that are taken then.
        """
        targets = self._workshop.matrix.targets
        for name in names:
            if name in self._running and targets[self._cells[name].target].is_processor:
                self._asked[name] = self._asking.submit(self._running[name].guest.stats, attest=True)

    def end(self, name: str) -> None:
        """End a cell's guest, where it has one, and hold its environment against what it was.  Raises CellProblem."""
        if name in self._running:
            self._end(name, self._running.pop(name), last=True)
            env, packages = self._packages[name]
            env.require_unchanged(packages)

    def _started(self, name: str, number: int) -> _Launched:
        """A process that has loaded the cell's artifact and inferred once."""
        workshop, cell = self._workshop, self._cells[name]
        with workshop.progress.timed(cell.id, "latency: start", "latency"), ExitStack() as stack:
            env = workshop.environment(cell.environment)
            if name not in self._packages:
                self._packages[name] = env, env.freeze()
            guest = self._forked(cell, env, stack)
            forked = guest is not None
            guest = guest or stack.enter_context(workshop.guest(cell, env, "latency"))
            loaded = self._load(name, guest)
            self._stack.push(stack.pop_all())
        assert guest.first_inference_ms is not None, "it has just inferred"
        return _Launched(guest, number, loaded, guest.first_inference_ms, forked)

    def _forked(self, cell: Cell, env: Env, stack: ExitStack) -> Worker | None:
        """A guest that is forked for a cell; None where there is no spare, or it has failed, and there is none then."""
        key = key_of(self._workshop, cell, env)
        spare = self._workshop.spares.of(key)
        if spare is None:
            return None
        try:
            return stack.enter_context(Child(spare, log_path=self._workshop.log(cell, "latency")))
        except CellProblem as problem:
            self._workshop.progress.message(f"{cell.id}: its launches are new processes from here on: {problem}")
            self._workshop.spares.drop(key)
            return None

    def _load(self, name: str, guest: Worker) -> Loaded:
        workshop, cell = self._workshop, self._cells[name]
        loaded = guest.load(workshop.load_spec(cell, workshop.artifact(cell)), timeout=workshop.deadlines(cell).load)
        self._infer_first(name, guest)
        return loaded

    def _infer_first(self, name: str, guest: Worker) -> None:
        """One inference, of the first image where the cell has none left to infer: it is then timed on that."""
        cell = self._cells[name]
        if not self._first(name, guest):
            x = self._workshop.input([0] * cell.batch, cell.imgsz)
            guest.outputs(x, timeout=self._workshop.deadlines(cell).infer)

    def _end(self, name: str, launched: _Launched, *, last: bool = False) -> None:
        """Have the very process that was timed say what it ran, note what it took, then end it.  Raises CellProblem.

        Of those that were forked, alike until they loaded, the last says it; none took the time and the memory of an
        import.
        """
        guest, loaded = launched.guest, launched.loaded
        if launched.forked and not last:
            guest.close()
            return
        cell, before = self._cells[name], self._processes[name]
        try:
            stats = self._asked.pop(name).result() if name in self._asked else guest.stats(attest=True)
            check_attestation(self._workshop, cell, stats.attested)
            on_device = device_times(self._workshop, cell, guest, before)
        finally:
            guest.close()
        if launched.forked:
            return
        before.append(
            Launch(
                name,
                self._window,
                launched.number,
                loaded.import_ms,
                loaded.load_ms,
                launched.first_inference_ms,
                stats.peak_rss_bytes,
                **on_device,
            )
        )

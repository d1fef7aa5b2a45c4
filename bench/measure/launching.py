"""Guests of a time window: started, loaded anew between launches, asked at their end what they ran.

A launch is a process of its own, or the model loaded once more in one that is there, at other addresses: what a launch
is there for, that memory lies elsewhere, is then drawn again at a fraction of the cost (docs/method.md has figures, and
says for which runtimes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from bench.environments.locked import Env
from bench.grid.matrix import Cell
from bench.measure.instruments.attestation import check_attestation
from bench.measure.on_device import device_times
from bench.measure.workshop import Workshop
from bench.stats.launches import Launch
from bench.wall.worker import Loaded, Worker


@dataclass(frozen=True)
class _Launched:
    """A guest that is being timed, the launch with which its process began, and what that start took.

    `peak_rss_bytes` is of the time before the model was loaded once more, which takes memory; None until then.
    """

    guest: Worker
    number: int
    loaded: Loaded
    first_inference_ms: float
    peak_rss_bytes: int | None = None


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

    def launch(self, name: str) -> Worker:
        """The guest of a cell's next launch, ready to be timed.

        As often as the sweep's `loads` says a process has another; the others are had by loading anew, where the model
        is in the guest's own memory, and then as fast as in a new process.  Raises CellProblem; the cell then has no
        guest.
        """
        number, launched = self._launches[name], self._running.pop(name, None)
        self._launches[name] += 1
        if launched is not None and self._movable(name, launched) and number % self._workshop.sweep.latency.loads:
            launched = self._moved(name, launched)
        else:
            if launched is not None:
                self._end(name, launched)
            launched = self._started(name, number)
        self._running[name] = launched
        return launched.guest

    def guest(self, name: str) -> Worker:
        """The guest that a cell has, or the next where it has none.  Raises CellProblem."""
        return self._running[name].guest if name in self._running else self.launch(name)

    def end(self, name: str) -> None:
        """End a cell's guest, where it has one, and hold its environment against what it was.  Raises CellProblem."""
        if name in self._running:
            self._end(name, self._running.pop(name))
            env, packages = self._packages[name]
            env.require_unchanged(packages)

    def _started(self, name: str, number: int) -> _Launched:
        """A new process that has loaded the cell's artifact and inferred once."""
        workshop, cell = self._workshop, self._cells[name]
        with workshop.progress.timed(cell.id, "latency: start", "latency"), ExitStack() as stack:
            env = workshop.environment(cell.environment)
            if name not in self._packages:
                self._packages[name] = env, env.freeze()
            guest = stack.enter_context(workshop.guest(cell, env, "latency"))
            loaded = self._load(name, guest)
            self._stack.push(stack.pop_all())
        assert guest.first_inference_ms is not None, "it has just inferred"
        return _Launched(guest, number, loaded, guest.first_inference_ms)

    def _moved(self, name: str, launched: _Launched) -> _Launched:
        """The same process with the model at other addresses."""
        guest, peak = launched.guest, launched.peak_rss_bytes
        if peak is None:
            peak = guest.stats().peak_rss_bytes
        with self._workshop.progress.timed(self._cells[name].id, "latency: load anew", "latency"):
            self._load(name, guest, elsewhere=True)
        return replace(launched, peak_rss_bytes=peak)

    def _movable(self, name: str, launched: _Launched) -> bool:
        """Whether loading anew draws again what a launch is for; beside the processor nobody has shown that."""
        loaded, target = launched.loaded, self._workshop.matrix.targets[self._cells[name].target]
        return loaded.movable and not loaded.heap_bound and target.is_processor

    def _load(self, name: str, guest: Worker, *, elsewhere: bool = False) -> Loaded:
        workshop, cell = self._workshop, self._cells[name]
        spec = workshop.load_spec(cell, workshop.artifact(cell))
        loaded = guest.load(spec, timeout=workshop.deadlines(cell).load, elsewhere=elsewhere)
        self._infer_first(name, guest)
        return loaded

    def _infer_first(self, name: str, guest: Worker) -> None:
        """One inference, of the first image where the cell has none left to infer: it is then timed on that."""
        cell = self._cells[name]
        if not self._first(name, guest):
            x = self._workshop.input([0] * cell.batch, cell.imgsz)
            guest.outputs(x, timeout=self._workshop.deadlines(cell).infer)

    def _end(self, name: str, launched: _Launched) -> None:
        """Have the very process that was timed say what it ran, note what it took, then end it.  Raises CellProblem."""
        guest, loaded, peak = launched.guest, launched.loaded, launched.peak_rss_bytes
        cell, before = self._cells[name], self._processes[name]
        try:
            stats = guest.stats(attest=True)
            check_attestation(self._workshop, cell, stats.attested)
            on_device = device_times(self._workshop, cell, guest, before)
        finally:
            guest.close()
        before.append(
            Launch(
                name,
                self._window,
                launched.number,
                loaded.import_ms,
                loaded.load_ms,
                launched.first_inference_ms,
                stats.peak_rss_bytes if peak is None else peak,
                **on_device,
            )
        )

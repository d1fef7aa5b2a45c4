"""What is going on, for a person: one bar with cell, phase and time left, or plain lines where nothing can move."""

from __future__ import annotations

import importlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

# A phase shorter than this is not worth a line of its own in a log file.
QUIET_SECONDS = 2.0
# How often a notebook's bar is drawn.  Every drawing is a message to the browser, and a run takes minutes.
NOTEBOOK_SECONDS = 0.5


class _Shown(Protocol):
    """Something that moves on a screen between `start` and `stop`."""

    def start(self) -> None:
        """Show it."""

    def stop(self) -> None:
        """Take it away."""


class _InNotebook:
    """A progress bar in the output of a notebook's cell, drawn anew in place; a line of what was done stays.

    rich's own way there needs ipywidgets in the kernel and in the browser's side, and warns at every refresh without
    them; to replace an output is part of the notebook protocol, which every front end speaks.
    """

    def __init__(self, progress: Progress, say: Callable[[str], str]) -> None:
        """Nothing is shown yet."""
        self._progress = progress
        self._say = say
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw, name="progress", daemon=True)
        self._handle: Any = None

    def start(self) -> None:
        """Show the bar, and keep it moving while a phase takes long."""
        # IPython is no dependency: it is there wherever there is a notebook, and imported nowhere else.
        display = importlib.import_module("IPython.display").display
        self._handle = display(self._progress, display_id=True)
        self._thread.start()

    def stop(self) -> None:
        """Put what was done in the bar's place."""
        self._ended.set()
        self._thread.join()
        (task,) = self._progress.tasks
        told = f"{task.completed:.0f} of {task.total or 0:.0f} steps in {task.elapsed or 0:.0f} s"
        self._handle.update(Text(self._say(told)))

    def _draw(self) -> None:
        while not self._ended.wait(NOTEBOOK_SECONDS):
            self._handle.update(self._progress)


class Reporter:
    """Shows progress over weighted steps.  Use as a context manager; every method is cheap to call often.

    On a terminal and in a notebook: a live bar.  Elsewhere (a CI log): a line per finished phase.  With `enabled`
    false: silent.
    """

    def __init__(self, console: Console, *, enabled: bool = True, say: Callable[[str], str] = str) -> None:
        """Write to `console`, in the words that `say` makes of ours; nothing is shown before `__enter__`."""
        self._console = console
        self._say = say
        self._enabled = enabled
        self._total = 0.0
        self._done = 0.0
        self._started = self._steps_began = time.monotonic()
        self._phase = ""
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, left="", visible=True)
        self._bar: _Shown | None = None
        if enabled and console.is_jupyter:
            self._bar = _InNotebook(self._progress, say)
        elif enabled and console.is_terminal:
            self._bar = self._progress

    def __enter__(self) -> Self:
        """Show the bar."""
        self._started = self._steps_began = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def expect(self, steps: int) -> None:
        """Add steps to the whole."""
        self._total += steps
        self._show()

    def begin_steps(self) -> None:
        """Say that the steps begin now: what went before does not tell how long they take."""
        self._steps_began = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        """Mark steps as done."""
        self._done += steps
        self._show()

    def message(self, text: str) -> None:
        """Show a line that stays."""
        if self._enabled:
            self._console.print(escape(self._say(text)), highlight=False)

    def phase(self, cell: str, phase: str) -> None:
        """Say what is being done now."""
        phase = self._say(phase)
        self._phase = f"{cell}  {phase}" if cell else phase
        self._progress.update(self._task, description=escape(self._phase))

    @property
    def spent(self) -> Mapping[str, float]:
        """Seconds by step since the start, a phase inside another counted once; `total` holds what is in none too."""
        return {**self._spent, "total": time.monotonic() - self._started}

    @contextmanager
    def timed(self, cell: str, phase: str, step: str = "") -> Iterator[None]:
        """A phase with a beginning and an end; in a log it becomes one line with its duration.

        `step` is what its seconds are counted under, the phase itself where it is empty.
        """
        before = self._phase
        self._inner.append(0.0)
        self.phase(cell, phase)
        started = time.monotonic()
        try:
            yield
        finally:
            self.phase("", before)
            seconds = time.monotonic() - started
            self._spent[step or phase] += seconds - self._inner.pop()
            if self._inner:
                self._inner[-1] += seconds
            self.took(cell, phase, seconds)

    def took(self, cell: str, phase: str, seconds: float) -> None:
        """In a log, the line of a phase that is over, unless it was too short for one."""
        if self._enabled and self._bar is None and seconds >= QUIET_SECONDS:
            where = f"[{self._done:.0f}/{self._total:.0f}] {cell}".rstrip()
            self._console.print(escape(f"{where}  {self._say(phase)}  {seconds:.1f} s"), highlight=False)

    def _show(self) -> None:
        left = ""
        if self._done > 0 and self._total > self._done:
            elapsed = time.monotonic() - self._steps_began
            seconds = elapsed / self._done * (self._total - self._done)
            left = f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
        self._progress.update(self._task, total=self._total or None, completed=self._done, left=self._say(left))

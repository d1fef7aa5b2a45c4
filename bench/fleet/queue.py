"""Jobs that wait for a worker, and which of them a worker is given: a guest that has loaded a cell is used up first.

Loading a cell takes as long as inferring some dozens of images, and a worker holds one guest.  So one that holds a
cell's guest goes on with that cell, another begins with another cell, and cells that others have begun are helped with
only when none is left to begin.  That keeps the end balanced, and has all workers at one cell where there is no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future as Promise
from dataclasses import dataclass, field

from distributed import Future

from bench.fleet.jobs import Answer, Job

Tags = frozenset[str]
"""What a worker says of its machine, or what is asked of it."""
_FIRST = {"export", "look"}


@dataclass(eq=False)
class Sent:
    """A job, what it asks of a worker, and which have failed at it; while one has it, its address and Dask's future."""

    job: Job
    tags: Tags
    promise: Promise[Answer] = field(default_factory=Promise)
    failed: list[str] = field(default_factory=list)
    worker: str = ""
    future: Future | None = None

    @property
    def first(self) -> bool:
        """Whether it goes before others: they wait for it, and so does who goes through the cells."""
        return self.job.work in _FIRST

    def fits(self, worker: str, there: Mapping[str, Tags]) -> bool:
        """Whether a worker is to do it: one that has failed only where all have that could, of those connected."""
        if not self.tags <= there[worker]:
            return False
        return worker not in self.failed or all(
            other in self.failed for other, tags in there.items() if self.tags <= tags
        )


class Queue:
    """Not thread-safe."""

    def __init__(self) -> None:
        """Nothing waits, and no worker holds a guest."""
        self._waiting: list[Sent] = []
        self._held: dict[str, str] = {}
        self._begun: set[str] = set()

    def __len__(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def add(self, sent: Sent) -> None:
        """Have a job wait behind the others."""
        self._waiting.append(sent)

    def put_back(self, sent: Sent) -> None:
        """Have one that was taken wait before the others."""
        self._waiting.insert(0, sent)

    def clear(self) -> None:
        """Forget what waits."""
        self._waiting.clear()

    def take(self, worker: str, there: Mapping[str, Tags]) -> Sent | None:
        """The job that a worker is given, None where none is for it; `there` are the tags of all that are connected."""
        fitting = [sent for sent in self._waiting if sent.fits(worker, there)]
        if not fitting:
            return None
        left = Counter(sent.job.guest for sent in fitting)
        held = self._held.get(worker)

        def rank(sent: Sent) -> tuple[bool, bool, bool, int]:
            guest = sent.job.guest
            starts = guest not in ("", held)
            helps = starts and guest in self._begun
            return not sent.first, helps, starts, -left[guest] if helps else 0

        chosen = min(fitting, key=rank)  # of equals the one that was sent first
        self._waiting.remove(chosen)
        if chosen.job.guest:
            self._held[worker] = chosen.job.guest
            self._begun.add(chosen.job.guest)
        return chosen

"""Guests that export: a process for each artifact, new, or forked from one that has imported what most of them share.

Most import PyTorch and ultralytics first, which takes as long as a small export.  Where several artifacts are made,
that is done once: the process that has done it has read no model and exports nothing, and each exporter is a child of
it, which keeps the right to write to its own artifact's folder alone.
"""

from __future__ import annotations

import ast
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.environments.locked import Env, Environments
from bench.places import EXPORTERS
from bench.reasons import CellProblem
from bench.wall.child import Child
from bench.wall.confinement import Confinement
from bench.wall.worker import Worker

SHARED = EXPORTERS / "_ultralytics.py"
"""What most exporters import, and nearly all that these import."""
_FORKS = sys.platform == "linux"


class Exporters:
    """Starts them.  Threads may share it."""

    def __init__(self, environments: Environments, place: Path) -> None:
        """Below `place`, which is there once anything is exported, lies whatever they write.  Nothing is started."""
        self._environments = environments
        self._place = place
        self._families: frozenset[str] = frozenset()
        self._bases: dict[str, tuple[Worker, float] | None] = {}
        self._starting: dict[str, threading.Lock] = {}

    @contextmanager
    def forking(self, families: Collection[str]) -> Iterator[None]:
        """Meanwhile exporters in these families' environments are forked, where they share what they import."""
        self._families = frozenset(families)
        try:
            yield
        finally:
            self._families = frozenset()
            for base, _ in filter(None, self._bases.values()):
                base.close()
            self._bases.clear()

    @contextmanager
    def started(self, env: Env, exporter: Path, output: Path, log: Path) -> Iterator[tuple[Worker, float]]:
        """An exporter that may write to `output`, which is below `place`, and what it says to `log`.

        With it since when it would be at work by the monotonic clock, had it imported itself what was imported for it
        and for others before, for which it may have waited.  Raises CellProblem.
        """
        with ExitStack() as stack:
            worker: Worker | None = None
            base = self._base(env) if shares(exporter) else None
            since = time.monotonic()
            if base is not None:
                parent, imports = base
                own = Confinement(writable=(output,))
                with suppress(CellProblem):  # a new process will do, or say what is wrong
                    worker = stack.enter_context(Child(parent, log_path=log, adapter=exporter, confinement=own))
                    since -= imports
            yield worker or stack.enter_context(self._worker(env, exporter, output, log)), since

    def _base(self, env: Env) -> tuple[Worker, float] | None:
        """The guest that exporters in an environment are forked from, and the seconds it took to start.

        None where they are not forked, or it cannot be had.
        """
        if env.family not in self._families:
            return None
        with self._starting.setdefault(env.family, threading.Lock()):
            if env.family not in self._bases:
                base, started = self._worker(env, SHARED, self._place), time.monotonic()
                try:
                    base.start()
                except CellProblem:
                    self._bases[env.family] = None
                else:
                    self._bases[env.family] = base, time.monotonic() - started
            return self._bases[env.family]

    def _worker(self, env: Env, adapter: Path, writable: Path, log: Path | None = None) -> Worker:
        return Worker(
            env.python,
            adapter,
            variables=self._environments.variables(),
            threads=threads(),
            log_path=log,
            confinement=Confinement(writable=(writable,)),
        )


def threads() -> int:
    """Threads of an exporter: as many as this machine has CPUs."""
    return os.cpu_count() or 1


def worth_forking(exporters: Sequence[tuple[Path, str]]) -> set[str]:
    """Environment families that several of these artifacts' exporters, each with its family, can be forked in."""
    sharing = Counter(family for exporter, family in exporters if shares(exporter))
    return {family for family, number in sharing.items() if number > 1} if _FORKS else set()


def shares(exporter: Path) -> bool:
    """Whether an exporter of ours imports what most do.  One that cannot be read does not: to start it says why."""
    try:
        module = ast.parse(exporter.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    imports = {(node.level, node.module) for node in module.body if isinstance(node, ast.ImportFrom)}
    return exporter.parent == EXPORTERS and (1, SHARED.stem) in imports

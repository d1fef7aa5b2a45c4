"""A guest's process that another guest forked: what `subprocess.Popen` is of one that the core started itself.

The two sides speak through named pipes in the child's folder.  How it ended only its parent can ask the kernel; that it
has ended anybody can see who holds a descriptor of it (pidfd).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

from bench.guest.forking import ANSWERS, REQUESTS
from bench.reasons import CellProblem

Pipes = tuple[IO[bytes], IO[bytes]]
UNKNOWN = 256
"""How a process ended that nobody can ask about: no exit code."""


def pipes(folder: Path) -> Pipes:
    """Make a child's pipes in its folder, and open the core's ends: to it, and from it.  Raises OSError."""
    for name in (REQUESTS, ANSWERS):
        os.mkfifo(folder / name)
    # Open at both ends, so that neither side waits for the other to open its own. When this process ends, both close.
    requests = os.open(folder / REQUESTS, os.O_RDWR)
    answers = os.open(folder / ANSWERS, os.O_RDONLY | os.O_NONBLOCK)
    return os.fdopen(requests, "wb"), os.fdopen(answers, "rb", buffering=0)


class Forked:
    """A child of a guest."""

    def __init__(self, pid: int, ends: Pipes, reap: Callable[[int], int | None]) -> None:
        """`reap` asks the parent how a child of its own has ended, and raises CellProblem where that is gone.

        Raises OSError where the system gives no descriptor of a process.
        """
        self.pid = pid
        self.stdin: IO[bytes] | None = ends[0]
        self.stdout: IO[bytes] | None = ends[1]
        self._reap = reap
        self._descriptor = os.pidfd_open(pid)
        self._code: int | None = None

    def __del__(self) -> None:
        """Close the descriptor."""
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._descriptor)

    def poll(self) -> int | None:
        """How it ended, or None while it runs; UNKNOWN where its parent is gone."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended.  Raises TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return code

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self._code is None and select.select([self._descriptor], [], [], timeout)[0]:
            try:
                self._code = self._reap(self.pid)
            except CellProblem:
                self._code = UNKNOWN
        return self._code

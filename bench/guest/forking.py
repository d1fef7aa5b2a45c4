"""A guest that has imported its runtime and forks: each child is what a new process is once it has imported that.

A child lacks what makes a new process slow to have.  What a launch is there for it draws anew: blocks of random sizes
on its heap put all that it will load at other addresses; without them all children would share one layout.  Only a
guest that has loaded nothing is forked: threads do not survive it, and a runtime has none before it has a model.
"""

from __future__ import annotations

import os
import random
import tempfile
import traceback
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from .seal import restrict_writes

REQUESTS, ANSWERS = "requests", "answers"
"""Named pipes in a child's folder, from the core and to it."""
LOG = "stderr.log"
"""What a child writes to standard error, in the same place."""
MOVES = (1 << 17,) * 20 + (1 << 18,)
"""Bytes that each of the blocks has at most which move a load to other addresses: from a cache line to pages."""
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")
_kept: list[bytearray] = []


def move() -> None:
    """Put blocks of random sizes on the heap, for good."""
    _kept.extend(bytearray(random.randrange(most)) for most in MOVES)  # noqa: S311 - sizes, not secrets


def fork(folder: Path, descriptors: Iterable[int], writable: Sequence[str] = ()) -> int:
    """Fork this process; its process id, or 0 in the child.

    The child speaks through the named pipes of its `folder`, on file descriptors 0 and 1, leads a session of its own,
    and has closed `descriptors`, those that the parent speaks through.  Of what the parent may write to it keeps
    `writable` alone, where that is given.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns of threads; the only one of ours waits for the parent's next request.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        os.setsid()
        os.chdir(folder)
        for descriptor in descriptors:
            os.close(descriptor)
        _replace(0, os.open(folder / REQUESTS, os.O_RDONLY))
        _replace(1, os.open(folder / ANSWERS, os.O_WRONLY))
        _replace(2, os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        os.environ.update(dict.fromkeys(_TEMPORARY, str(folder / "tmp")))
        tempfile.tempdir = None
        if writable:
            restrict_writes(writable)
        random.seed()
        move()
    except BaseException:  # noqa: BLE001 - whatever it is, a child that is none may not go on as its parent
        traceback.print_exc()
        os._exit(1)
    return 0


def reap(pid: int) -> int | None:
    """How a child has ended, as subprocess's `returncode`; None while it runs.  Raises ChildProcessError for others."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _replace(number: int, descriptor: int) -> None:
    os.dup2(descriptor, number)
    os.close(descriptor)

"""One at a time: whoever takes times on this machine keeps everybody else of the same user from it meanwhile.

Guests of two sweeps would be pinned to the same CPUs, and each would measure the other.  Workers of a fleet on this
machine, which work beside each other, rest meanwhile.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import platformdirs

from bench.files import replacing
from bench.progress import Reporter
from bench.reasons import UsageError

_WORKING = "working-"
LOOK_S = 2.0
"""Seconds after which whoever waits looks again who it is waiting for."""


def lock_path() -> Path:
    """The file that is locked: one per machine and user, whatever their results folder or cache."""
    return platformdirs.user_state_path("yolo11-bench") / f"timing-{platform.node() or 'machine'}.lock"


@contextmanager
def machine_lock(progress: Reporter) -> Iterator[None]:
    """Have this machine to oneself for as long as times are taken, waiting for whoever has it; not to be nested.

    Those who are `working` here end what they are at first, and begin nothing more.

    Raises UsageError where the lock cannot be made.
    """
    path = lock_path()
    lock = filelock.FileLock(path)
    note = path.with_suffix(".pid")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not _acquired(lock, 0):
            _wait(lock, note, progress)
        with replacing(note) as file:
            file.write(str(os.getpid()).encode())
        _await_workers(path)
    except OSError as error:
        text = f"cannot lock {path}, which keeps two runs from taking times at once: {error}"
        raise UsageError(f"{text}; set XDG_STATE_HOME to a folder that can be written") from error
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


@contextmanager
def working() -> Iterator[None]:
    """Work on this machine beside others who do, but never while anybody takes times: wait until they are done.

    Raises UsageError where that cannot be told.
    """
    path = lock_path()
    own = filelock.FileLock(path.with_name(f"{_WORKING}{path.stem}-{os.getpid()}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        own.acquire()
        while _timed(path):  # whoever takes times has said so before it looks who works, and so one of the two sees
            own.release()
            time.sleep(LOOK_S)
            own.acquire()
    except OSError as error:
        text = f"cannot lock {own.lock_file}, which tells others on this machine that somebody works: {error}"
        raise UsageError(f"{text}; set XDG_STATE_HOME to a folder that can be written") from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open
            Path(own.lock_file).unlink()  # still held: whoever has opened it by now sees that nobody works
        own.release()


def _timed(path: Path) -> bool:
    """Whether somebody has the lock and has said so; what one that was killed has left behind is removed."""
    note = path.with_suffix(".pid")
    if not note.exists():
        return False
    lock = filelock.FileLock(path)
    if not _acquired(lock, 0):
        return True
    note.unlink(missing_ok=True)
    lock.release()
    return False


def _await_workers(path: Path) -> None:
    for other in path.parent.glob(f"{_WORKING}{path.stem}-*.lock"):
        with filelock.FileLock(other), suppress(OSError):  # as below
            other.unlink()  # of one that was killed


def _wait(lock: filelock.BaseFileLock, note: Path, progress: Reporter) -> None:
    """Wait as long as it takes, saying for whom."""
    progress.message(f"{_holder(note)} takes times on this machine; waiting until it is done, lest one slow the other.")
    with progress.timed("", "waiting for the machine"):
        while not _acquired(lock, LOOK_S):
            progress.phase("", f"waiting for the machine: {_holder(note)} takes times")


def _acquired(lock: filelock.BaseFileLock, seconds: float) -> bool:
    try:
        lock.acquire(timeout=seconds, poll_interval=0.5)
    except filelock.Timeout:
        return False
    return True


def _holder(note: Path) -> str:
    """Who has the lock, by what it noted; it notes that just after it has taken it."""
    try:
        return f"Process {note.read_text(encoding='ascii')}"
    except FileNotFoundError:
        return "Another process"

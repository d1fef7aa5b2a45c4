"""Paths that users write, files that several processes share, and folders that one process at a time makes."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import filelock

from bench.reasons import UsageError


def expanded(option: str, given: str) -> Path:
    """The path that a user gave for an option, ~ being a home.  Raises UsageError where there is no such home."""
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{option} {given}: {error}; write the path in full") from error


def exists(path: Path) -> bool:
    """Whether a path leads to something.  Raises UsageError where that is not for us to know."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no name holds a NUL
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        why = error.strerror or error
        raise UsageError(f"cannot look at {path}: {why}; make it readable, or correct the path") from error
    return True


def place(option: str, given: str) -> Path:
    """The whole path of a folder that an option names, which need not be there.

    Raises UsageError for one that there cannot be, or that nobody may look into.
    """
    path = expanded(option, given)
    try:
        path = path.resolve()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever makes it, or needs it, says so
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: links in a circle
        why = (isinstance(error, OSError) and error.strerror) or error
        raise UsageError(f"{option} {given}: {why}; correct the name, or the permissions there") from error
    return path


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` once it is whole; folders on the way are made.

    When the body raises, or the disk refuses (OSError), the previous file stays and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    except BaseException:  # Ctrl-C too
        temporary.unlink(missing_ok=True)
        raise


def lock_of(directory: Path) -> Path:
    """The file beside a folder that guards it; its time is that of the folder's last use."""
    return directory.with_name(f"{directory.name}.lock")


@contextmanager
def locked(directory: Path, timeout: float = -1) -> Iterator[None]:
    """Keep other processes from a folder that need not exist yet, and note its use.

    Waits for at most `timeout` seconds (negative: as long as it takes).  Raises filelock.Timeout.
    """
    lock = lock_of(directory)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(lock, timeout=timeout):
        lock.touch()
        yield

"""What of the cache was not used for long: environments of old locks, artifacts of models that nobody benches now.

Everything in the cache that is made once and shared between processes has a lock file beside it, whose time is that of
the last use (`bench.files.locked`).
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import filelock

from bench.files import lock_of

SECONDS_PER_DAY = 86_400
FOLDERS = ("envs", "artifacts", "js", "emulators", "demo", "fleet")


@dataclass(frozen=True)
class Entry:
    """One thing in the cache, the days since it was last used, and the bytes that deleting it would free."""

    path: Path
    idle_days: float
    bytes: int

    @property
    def name(self) -> str:
        """Folder of the cache and name."""
        return f"{self.path.parent.name}/{self.path.name}"


def unused(cache: Path, days: float) -> list[Entry]:
    """What was not used for at least `days` days, longest first.  Raises OSError for a cache that cannot be read."""
    now = time.time()
    found = []
    for lock in (lock for folder in FOLDERS for lock in sorted((cache / folder).glob("*.lock"))):
        path = lock.with_suffix("")
        idle = (now - lock.stat().st_mtime) / SECONDS_PER_DAY
        if idle >= days and path.is_dir():
            found.append(Entry(path, idle, _bytes(path)))
    return sorted(found, key=lambda entry: (-entry.idle_days, entry.name))


def remove(entry: Entry) -> bool:
    """Delete an entry; False where a process is using it right now.  Raises OSError."""
    try:
        with filelock.FileLock(lock_of(entry.path), timeout=0):
            shutil.rmtree(entry.path)
    except filelock.Timeout:
        return False
    return True


def _bytes(path: Path) -> int:
    """Bytes of the files that nothing else links to: installers link files of their own cache into environments."""
    stats = (file.stat(follow_symlinks=False) for file in path.rglob("*") if file.is_symlink() or file.is_file())
    return sum(stat.st_size for stat in stats if stat.st_nlink == 1)

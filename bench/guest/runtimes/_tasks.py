"""Threads of this process as the kernel lists them, for runtimes that only repeat how many they were asked for."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path("/proc/self/task")


def tasks() -> int:
    """How many there are; 0 where the kernel does not list them."""
    return len(list(_FOLDER.iterdir())) if _FOLDER.exists() else 0


def started(before: int, after: int) -> int | None:
    """How many were started between two countings; None where the kernel does not list them."""
    return after - before if before and after else None

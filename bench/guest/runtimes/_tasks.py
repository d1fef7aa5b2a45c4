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


def named(beginning: str) -> int:
    """How many have a name that begins so; 0 where the kernel does not list them."""
    names = [(task / "comm").read_text(encoding="utf-8") for task in _FOLDER.iterdir()] if _FOLDER.exists() else []
    return sum(name.startswith(beginning) for name in names)

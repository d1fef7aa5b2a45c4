"""Other processes, looked at at any time: psutil raises for one that has ended meanwhile."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended.  A zombie, which only its reaper still counts, has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_line(process: psutil.Process) -> list[str]:
    """Its command line; none where it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def environment(process: psutil.Process, seconds: float = 10.0) -> dict[str, str]:
    """Its variables; where it is just being given another program, which has none at first, those of that program.

    Raises psutil.Error where it ends meanwhile.
    """
    deadline = time.monotonic() + seconds
    while _between_programs(process) and time.monotonic() < deadline:
        time.sleep(0.001)
    return process.environ()


def _between_programs(process: psutil.Process) -> bool:
    """Whether the kernel is still at its exec, which writes the program's words and variables as nearly its last step.

    Field 26 of its stat, where its code begins (proc_pid_stat(5)), is written after them.  The kernel's own threads
    have no program and never get one; a zombie is a psutil.Error.
    """
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False  # it has ended
    code = int(stat.rpartition(")")[2].split()[26 - 3])
    return code == 0 and bool(process.exe())


def below(pid: int, program: str) -> list[psutil.Process]:
    """Living processes that descend from one, nearest first, whose program has this in its path."""
    descendants = psutil.Process(pid).children(recursive=True)
    return [one for one in descendants if lives(one) and program in "".join(command_line(one)[:1])]


def left(processes: Collection[psutil.Process], seconds: float = 10.0) -> list[psutil.Process]:
    """Those that have not ended after some seconds."""
    deadline = time.monotonic() + seconds
    while (living := [one for one in processes if lives(one)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return living


def end(process: psutil.Process) -> None:
    """End it, unless it has ended."""
    with suppress(psutil.NoSuchProcess):
        process.kill()


def gone(pid: int, seconds: float = 5.0) -> bool:
    """Whether a process ends within some seconds."""
    try:
        return not left([psutil.Process(pid)], seconds)
    except psutil.NoSuchProcess:
        return True

"""What the processes of a browser cost: CPU time, memory and threads, summed over them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import psutil


def cpu_ns(processes: Sequence[psutil.Process]) -> int:
    """CPU time that processes have used so far, in ns; those that ended meanwhile count nothing."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return round(total * 1e9)


def footprint(processes: Sequence[psutil.Process]) -> dict[str, int]:
    """Peak resident bytes and threads of processes together.

    Each process's own peak, less what it shares with the others now, so that the browser's code counts once and not
    once per process.  Their peaks need not coincide: the sum is an upper bound.
    """
    total = {"peak_rss_bytes": 0, "threads": 0}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            total["peak_rss_bytes"] += _peak(process)
            total["threads"] += process.num_threads()
    return total


def _peak(process: psutil.Process) -> int:
    """Peak resident bytes of one process; where the system keeps none (macOS), what is resident now."""
    folder = Path(f"/proc/{process.pid}")
    if not Path("/proc/self/status").exists():
        return int(process.memory_info().rss)
    peak = _kibibytes(folder / "status", "VmHWM:")
    try:
        shared = _kibibytes(folder / "smaps_rollup", "Rss:") - _kibibytes(folder / "smaps_rollup", "Pss:")
    except PermissionError:  # a sandboxed process shows its maps to nobody
        shared = 0
    return (peak - shared) * 1024


def _kibibytes(path: Path, name: str) -> int:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(name)), 0)

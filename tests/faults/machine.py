"""What a machine lets a campaign do: small file systems, limits of processes, clocks that jump."""

from __future__ import annotations

import functools
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
JUMPING = Path(__file__).with_name("jumping.c")


@functools.cache
def lacks_mounts() -> str:
    """Why no file system can be mounted here."""
    return "" if _succeeds(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]) else "mounting needs root"


@functools.cache
def lacks_limits() -> str:
    """Why limits of a process cannot be set."""
    return "" if sys.platform == "linux" and shutil.which("prlimit") else "limits are set by Linux's prlimit"


@functools.cache
def lacks_groups() -> str:
    """Why no control group with a limit on memory can be made here."""
    if not (MEMORY_GROUPS / "memory.limit_in_bytes").is_file():
        return "no control groups (version 1) of memory are mounted"
    return "" if os.access(MEMORY_GROUPS, os.W_OK) else "making a control group needs root"


@functools.cache
def lacks_clocks() -> str:
    """Why a process cannot be given a wall clock that jumps."""
    return "" if shutil.which("cc") else "the library that moves the clock is built by a C compiler"


@functools.cache
def lacks_time_namespaces() -> str:
    """Why a process cannot be given a monotonic clock of its own."""
    found = _succeeds(["unshare", "--time", "--monotonic", "1000", "true"])
    return "" if found else "time namespaces need root and Linux 5.6"


def _succeeds(command: list[str]) -> bool:
    if sys.platform != "linux" or shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A file system of so many KiB at a folder, which is made."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        while folder.is_mount():
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(disk: Path) -> None:
    """From now on nothing that is named by its path can be written on a mounted file system; what is open stays so."""
    subprocess.run(["mount", "--bind", str(disk), str(disk)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(disk)], check=True)


@contextmanager
def memory_group(mib: int) -> Iterator[Path]:
    """The file by which a process joins a group that the kernel gives so much memory and no more."""
    group = MEMORY_GROUPS / f"bench-faults-{uuid4().hex[:8]}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(mib << 20), encoding="ascii")
        yield group / "cgroup.procs"
    finally:
        with suppress(OSError):  # a zombie that is not reaped yet is still a member
            group.rmdir()


def limit(pid: int, what: int, size: int) -> None:
    """Set a limit of another process, such as `resource.RLIMIT_AS`, in bytes.  Raises OSError where it has ended."""
    resource.prlimit(pid, what, (size, size))


def address_space(pid: int) -> int:
    """Bytes of address space that a process has now.  Raises OSError where it has ended."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[0]
    return int(pages) * resource.getpagesize()


def clock_library(folder: Path) -> Path:
    """The library that lets the wall clock of whatever preloads it jump, built now."""
    library = folder / "jumping.so"
    if not library.is_file():
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(JUMPING), "-ldl"], check=True)
    return library

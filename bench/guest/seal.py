"""Keeps the process that it runs in from the network and from files that are not its own, for good.

A guest does this to itself before it imports its runtime: no process more, and what it starts is kept from the same.
No privilege is needed:

* The network is that of a namespace of its own, in which nothing is there but the loopback (network_namespaces(7)); who
  may not make one makes a user namespace first, in which the same user is mapped to itself (user_namespaces(7)).
* Files are written below the given folders, in shared memory and to devices, and nowhere else: Landlock (landlock(7)).
  Reading is free, and so are the names of its own threads.

As a program it shows whether a system has that:

    python -I -S seal.py [--network] [--writable DIR]...

seals itself as it is told and prints what became of it as JSON.  Standard library only, for every interpreter a guest
may have; nothing of it opens a socket of an internet family, so that a trace of the guest shows the runtime's alone.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import json
import os
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

NETWORK, WRITES = "network", "writes"
"""What a report is about."""
ISOLATED, FREE = "none (namespace)", "not isolated"

# linux/sched.h, linux/prctl.h, linux/if.h, linux/sockios.h
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_NO_NEW_PRIVILEGES = 38
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1
_AF_UNIX, _DATAGRAM = 1, 2
_INTERFACE = struct.Struct("16sH22x")  # struct ifreq with its flags

# linux/landlock.h; system calls have these numbers on every machine that guests run on
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION, _BENEATH = 1, 1
_WRITE, _TRUNCATE, _REMOVE_FOLDER = 1 << 1, 1 << 14, 1 << 4
_CHANGES = sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
"""Every right by which the file system changes: write, remove, make, link, move (13), truncate (14)."""
_OLDEST = 3
"""The first version that knows all of them (Linux 6.2): 1 moves nothing between folders, 2 lets all be truncated."""
_RULE = struct.Struct("=Qi")

_MEMORY = {"mem", "kmem", "port", "kmsg"}
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - whose rights are given, not a place for a file
_THREADS = "/proc/self/task"
"""Where threads are named: CUDA does not start where it cannot name its own."""
_DEVICES = ("/dev/pts", "/dev/dri", "/dev/accel", "/dev/bus/usb", "/dev/nvidia-caps", "/dev/dma_heap")


def apply(arguments: argparse.Namespace) -> dict[str, str]:
    """Seal this process, which must have one thread, as its command line asks.

    Without `--writable` every file stays writable.  Returns, for what it was told to take away, what became of it in
    words; a system that refuses is told with its reason, and the process goes on.
    """
    report = {}
    if not arguments.network:
        try:
            leave_network()
            report[NETWORK] = ISOLATED
        except OSError as error:
            report[NETWORK] = f"{FREE}: {_why(error)}"
    if arguments.writable:
        try:
            report[WRITES] = f"own folders (Landlock {restrict_writes(arguments.writable)})"
        except OSError as error:
            report[WRITES] = f"{FREE}: {_why(error)}"
    return report


def leave_network() -> None:
    """Move this process into a network namespace of its own, with its loopback up.  Raises OSError."""
    libc = _libc()
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_NEW_NETWORK) != 0:  # as root it takes no more than that, and nothing else changes
        _checked(libc.unshare(_NEW_USER | _NEW_NETWORK), "unshare")
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    # Any socket answers for its network's interfaces; one of this family is none of the internet's.
    asking = _checked(libc.socket(_AF_UNIX, _DATAGRAM, 0), "socket")
    try:
        loopback = ctypes.create_string_buffer(_INTERFACE.pack(b"lo", 0))
        _checked(libc.ioctl(asking, ctypes.c_ulong(_GET_FLAGS), loopback), "ioctl")
        _, flags = _INTERFACE.unpack(loopback.raw[: _INTERFACE.size])
        loopback = ctypes.create_string_buffer(_INTERFACE.pack(b"lo", flags | _UP))
        _checked(libc.ioctl(asking, ctypes.c_ulong(_SET_FLAGS), loopback), "ioctl")
    finally:
        os.close(asking)


def restrict_writes(writable: Sequence[str]) -> int:
    """Let this process change nothing but what is below the folders, which exist; returns Landlock's version.

    Empty folders beside the current one may be removed too: a guest whose core was killed takes its own away.  Raises
    OSError.
    """
    version = _system(_CREATE, None, 0, _ASK_VERSION)
    if version < _OLDEST:
        raise OSError(0, f"Landlock {version} of this kernel is older than {_OLDEST} (Linux 6.2)")
    ruleset = _system(_CREATE, struct.pack("=Q", _CHANGES), 8, 0)
    try:
        for folder in (*writable, _SHARED_MEMORY):
            _allow(ruleset, folder, _CHANGES)
        _allow(ruleset, str(Path.cwd().parent), _REMOVE_FOLDER)
        for place in (*_DEVICES, *_character_devices(), _THREADS):
            _allow(ruleset, place, _WRITE | _TRUNCATE)
        _checked(_libc().prctl(_NO_NEW_PRIVILEGES, *map(ctypes.c_ulong, (1, 0, 0, 0))), "prctl")
        _system(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `apply` is told by a command line."""
    parser.add_argument("--network", action="store_true", help="keep the network")
    parser.add_argument("--writable", action="append", metavar="DIR", help="write here alone; any number of times")


def _character_devices() -> list[str]:
    """Devices that are talked to and hold no files, but for the machine's memory."""
    with os.scandir("/dev") as entries:
        return [entry.path for entry in entries if entry.name not in _MEMORY and _is_character_device(entry)]


def _is_character_device(entry: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISCHR(entry.stat().st_mode)
    except OSError:  # a link that leads nowhere
        return False


def _allow(ruleset: int, place: str, rights: int) -> None:
    """Give rights on a place and all below it; a place that is not there is passed over."""
    try:
        opened = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        _system(_ADD, ruleset, _BENEATH, _RULE.pack(rights, opened), 0)
    finally:
        os.close(opened)


@functools.cache
def _libc() -> ctypes.CDLL:
    """The C library.  Raises OSError where the system has none of what is asked of it."""
    if sys.platform != "linux":
        raise OSError(0, "only Linux has namespaces and Landlock")
    return ctypes.CDLL(None, use_errno=True)


def _system(number: int, *arguments: int | bytes | None) -> int:
    """A system call; numbers are passed as long as a register is.  Raises OSError."""
    given = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    call = _libc().syscall
    call.restype = ctypes.c_long
    return _checked(call(ctypes.c_long(number), *given), "Landlock")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _why(error: OSError) -> str:
    """Cause of a refusal in words, with the file that was refused."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)


def main() -> None:
    """Seal this process and say what became of it."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    print(json.dumps(apply(parser.parse_args())))  # noqa: T201 - what it is asked for


if __name__ == "__main__":
    main()

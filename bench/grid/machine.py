"""What this machine is, and which targets of the matrix it has."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from glob import glob
from importlib import metadata
from pathlib import Path

import psutil

from bench.grid.schema import Signs, Target


@dataclass(frozen=True)
class Presence:
    """Whether a target was found here: `found`, and in words what was seen or is missing."""

    found: bool
    text: str


def detect(target: Target) -> Presence:
    """Look for a target on this machine by the signs in its matrix entry; all of them must be there."""
    signs = target.detect
    checks = (_machine(signs), _system(signs), _executable(signs), _command(signs), _files(signs))
    seen = [text for text in checks if text]
    missing = [text.removeprefix("!") for text in seen if text.startswith("!")]
    if missing:
        return Presence(False, f"{target.name} not found: {'; '.join(missing)}. It needs {target.needs}.")
    return Presence(True, "; ".join(seen))


# Each check returns what it saw, "!" and what is missing, or nothing where no such sign is asked for.


def _machine(signs: Signs) -> str:
    machine = platform.machine()
    if not signs.machine:
        return ""
    return machine if signs.on_processor(machine) else f"!the processor is {machine}"


def _system(signs: Signs) -> str:
    system = platform.system()
    return "" if not signs.system else system if system in signs.system else f"!the system is {system}"


def _executable(signs: Signs) -> str:
    if not signs.executable:
        return ""
    found = next((path for name in signs.executable if (path := shutil.which(name))), None)
    return found or f"!none of {', '.join(signs.executable)} is on PATH"


def _command(signs: Signs) -> str:
    if not signs.command:
        return ""
    line = " ".join(signs.command)
    try:
        done = subprocess.run(signs.command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"!{signs.command[0]} is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"!`{line}` failed: {error}"
    match = re.search(signs.prints, done.stdout)
    if done.returncode or not match:
        return f"!`{line}` exits with {done.returncode} and lists no device"
    return match[0]


def _files(signs: Signs) -> str:
    if not signs.files:
        return ""
    for name in (name for pattern in signs.files for name in sorted(glob(pattern))):  # noqa: PTH207 - absolute patterns
        path = Path(name)
        # A device node proves itself by being there; a regular file must hold the text.
        if not signs.contains or path.is_char_device() or signs.contains in path.read_text(errors="replace"):
            return name
    return f"!no {' or '.join(signs.files)}" + (f" with {signs.contains}" if signs.contains else "")


def driver(target: Target) -> str:
    """Version of the driver behind a target's device, as the kernel tells it; empty where it tells none."""
    told = Path("/proc/driver/nvidia/version")
    return told.read_text(encoding="utf-8").partition("\n")[0] if target.device == "cuda" and told.is_file() else ""


def machine_id() -> str:
    """A name for machines that times may be compared between: processor, CPUs, memory, and a hash of what else counts.

    Equal for machines of one kind, so that a fleet of them may share a baseline's folder.
    """
    memory = round(psutil.virtual_memory().total / 2**30)
    word = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(R\)|\(TM\)|CPU|@.*", "", cpu_name()).lower()).strip("-")
    facts = (platform.system(), platform.machine(), *cpu_flags())
    digest = hashlib.sha256(" ".join(facts).encode()).hexdigest()[:6]
    return f"{word or platform.machine()}-{psutil.cpu_count() or 1}cpu-{memory}gb-{digest}"


def fingerprint() -> dict[str, str]:
    """Facts about the machine that a latency depends on, as text."""
    frequency = psutil.cpu_freq()
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpu_flags": " ".join(cpu_flags()),
        "cpu_cores_physical": str(psutil.cpu_count(logical=False) or ""),
        "cpu_cores_logical": str(psutil.cpu_count() or ""),
        "cpu_affinity": ",".join(map(str, available_cpus())),
        "cpu_mhz": f"{frequency.current:.0f}" if frequency else "",
        "memory_bytes": str(psutil.virtual_memory().total),
        "python": sys.version.split()[0],
        "virtual_machine": str("hypervisor" in cpu_flags()).lower(),
    }


def short_name(cpu: str, system: str) -> str:
    """How people call a machine: processor and system.  `system` is as in `fingerprint`."""
    return f"{cpu or 'unknown processor'}, {system.partition('-')[0] or 'unknown system'}"


def core_versions() -> dict[str, str]:
    """Versions of the packages in the core environment, by name."""
    return {dist.name.lower(): dist.version for dist in metadata.distributions()}


def available_cpus() -> list[int]:
    """CPUs this process may run on, in order; all of them where the system has no affinity (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def last_cpus(number: int) -> list[int]:
    """As many CPUs as guests are pinned to: the last ones, since the first also serves interrupts."""
    return available_cpus()[-number:]


def cpu_name() -> str:
    """Marketing name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    if platform.system() == "Darwin":
        line = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()
    return platform.processor() or platform.machine()


@cache
def cpu_flags() -> tuple[str, ...]:
    """Features of the processor, in the words of /proc/cpuinfo; empty where there is no such file."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
    return tuple(sorted(match.group(1).split())) if match else ()


def git_commit(directory: Path) -> str:
    """Commit of the checkout at `directory`, with `+changes` when the tree differs from it; empty outside git.

    Empty too where the folder only lies somewhere in a checkout: that one is somebody else's.
    """
    git = shutil.which("git")
    if git is None:
        return ""
    asked = [git, "rev-parse", "HEAD", "--show-toplevel"]
    head = subprocess.run(asked, cwd=directory, capture_output=True, text=True, check=False)
    if head.returncode:
        return ""
    commit, top = head.stdout.splitlines()
    if Path(top).resolve() != directory.resolve():
        return ""
    changed = subprocess.run(
        [git, "status", "--porcelain", "--untracked-files=no"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    return commit + ("+changes" if changed.stdout.strip() else "")

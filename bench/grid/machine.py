"""What this machine is, which targets of the matrix it has, and which commit of the bench lies on it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from glob import glob
from importlib import metadata
from pathlib import Path

import psutil

from bench import places
from bench.grid import matrix
from bench.grid.schema import Signs, Target

NOT_FOUND = " not found: "
"""What is said of a target whose device is not there, between its name and what is missing."""
PACKED_COMMIT = "COMMIT"
"""File of a bundle that stands in for git, beside the package."""


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
        return Presence(False, f"{target.name}{NOT_FOUND}{'; '.join(missing)}. It needs {target.needs}.")
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
    if found is not None:
        return found
    named = ", ".join(signs.executable)
    if not signs.fetched:
        return f"!none of {named} is on PATH"
    # Of what was fetched to its end the newest.
    marks = sorted(places.browsers().glob(f"{signs.fetched}-*/INSTALLATION_COMPLETE"))
    missing = f"!none of {named} is on PATH, and playwright has fetched no {signs.fetched}"
    return str(marks[-1].parent) if marks else missing


def _command(signs: Signs) -> str:
    if not signs.command:
        return ""
    line = " ".join(signs.command)
    try:
        done = subprocess.run(signs.command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"!{signs.command[0]} is not installed"
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:  # a NUL in a word, an output that is no text
        return f"!`{line}` failed: {error}"
    match = re.search(signs.prints, done.stdout)
    if done.returncode or not match:
        said = (done.stderr.strip() or done.stdout.strip()).partition("\n")[0]
        return f"!`{line}` exits with {done.returncode} and lists no device" + (f" ({said})" if said else "")
    return match[0]


def _files(signs: Signs) -> str:
    if not signs.files:
        return ""
    for name in (name for pattern in signs.files for name in sorted(glob(pattern))):  # noqa: PTH207 - absolute patterns
        path = Path(name)
        # A device node proves itself by being there; a regular file must hold the text.
        if not signs.contains or path.is_char_device() or signs.contains in _text(path):
            return name
    return f"!no {' or '.join(signs.files)}" + (f" with {signs.contains}" if signs.contains else "")


def _text(path: Path) -> str:
    """What a file holds; nothing where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def driver(target: Target) -> str:
    """Version of the driver behind a target's device, as the kernel tells it; empty where it tells none.

    A device that the kernel's own files tell of, or that comes with the system, is driven by the kernel itself.
    """
    told = Path("/proc/driver/nvidia/version")
    if target.device == "cuda":
        return told.read_text(encoding="utf-8").partition("\n")[0] if told.is_file() else ""
    built_in = target.detect.contains or target.detect.system == ["Darwin"]
    return f"{platform.system()} {platform.release()}" if built_in else ""


def device(target: Target) -> str:
    """What tells a target's device here from another's: what was found of it, and what it says of itself.

    The latter is what the program that finds it answers to the target's `describe`; its driver's version stands for
    that where there is none.  Two that differ may share neither a figure nor an artifact that is built for a device.
    """
    described = _described(target)
    parts = [detect(target).text, "; ".join(described) or driver(target)]
    if len(described) > 1 and target.chosen_by:  # which of several kinds it is, the user's variable says
        parts.append(f"{target.chosen_by}={os.environ.get(target.chosen_by, '')}")
    return ", ".join(part for part in parts if part)


def _described(target: Target) -> tuple[str, ...]:
    """Each kind of device once, in the words of the program that finds it; nothing where it does not answer.

    A program that is itself what is looked for, and does not say which version it is, is told by the hash of its file.
    """
    signs = target.detect
    names = signs.command[:1] or signs.executable
    found = next((path for name in names if (path := shutil.which(name))), None)
    if not found or not target.describe:
        return ()
    told = _answered((found, *target.describe))
    return told if told or signs.command else (f"sha256 {hashlib.sha256(Path(found).read_bytes()).hexdigest()}",)


def program(name: str) -> str:
    """What a program on PATH says its version is, or just that it is there; empty where it is not."""
    path = shutil.which(name)
    return "" if path is None else "; ".join(_answered((path, "--version"))) or name


@cache
def _answered(command: tuple[str, ...]) -> tuple[str, ...]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    lines = (line.strip() for line in done.stdout.splitlines())
    return () if done.returncode else tuple(dict.fromkeys(line for line in lines if line))


def accelerators(targets: Iterable[Target]) -> str:
    """Devices beside the processor that are found here, each with its driver's version where that is told."""
    return "; ".join(f"{name}, driver {version}" if version else name for name, version in _accelerators(targets))


def _accelerators(targets: Iterable[Target]) -> Iterator[tuple[str, str]]:
    """Name and driver's version of each.

    Those count that name themselves or their maker: a browser, or a driver that draws in software, is no device.
    """
    for target in targets:
        signs = target.detect
        if target.device == "cpu" or not (signs.command or signs.contains):
            continue
        presence = detect(target)
        if presence.found:
            version = re.search(r"\d+(\.\d+)+", driver(target))
            yield presence.text if signs.command else target.name, version[0] if version else ""


def machine_id() -> str:
    """A name for machines that times may be compared between: processor, CPUs, memory, and a hash of what else counts.

    Equal for machines of one kind, so that a fleet of them may share a baseline's folder.  Accelerators count, as the
    project's own matrices find them; their drivers do not: a check has to find its baseline after an update, and the
    driver is in the identity of each cell.
    """
    memory = round(psutil.virtual_memory().total / 2**30)
    word = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(R\)|\(TM\)|CPU|@.*", "", cpu_name()).lower()).strip("-")
    devices = (name for name, _ in _accelerators(matrix.load_targets().values()))
    facts = (platform.system(), platform.machine(), *cpu_flags(), *devices)
    digest = hashlib.sha256(" ".join(facts).encode()).hexdigest()[:6]
    return f"{word or platform.machine()}-{psutil.cpu_count() or 1}cpu-{memory}gb-{digest}"


def fingerprint(targets: Iterable[Target], name: str = "") -> dict[str, str]:
    """Facts about the machine that a latency depends on, as text.

    `targets` are those of the matrix; which of them are devices of this machine is one of the facts.  `name` is what
    its user calls it; nothing else here tells one machine of a kind from another, neither host nor serial number.
    """
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
        "accelerators": accelerators(targets),
        **({"name": name} if name else {}),
    }


NAMING = ("cpu", "cpu_cores_logical", "memory_bytes", "accelerators", "system", "name")
"""Those of the facts that a machine is named by."""


def short_name(facts: Mapping[str, str]) -> str:
    """What a machine is called: processor, logical CPUs, memory in GB, accelerators with their drivers, system.

    And in brackets what its user calls it.  So two machines with the same processor are two, unless nothing else tells
    them apart either.  `facts` are those of `fingerprint`, of which an older run may lack some; what is not told is
    left out of the name.
    """
    cpu, cores, memory, devices, system, own = (facts.get(name, "") for name in NAMING)
    words = [cpu or "unknown processor"]
    words += [f"{cores} CPU{'s' * (cores != '1')}"] if cores else []
    words += [f"{round(int(memory) / 1e9)} GB"] if memory.isdecimal() else []
    words += [devices] if devices else []
    told = ", ".join([*words, system.partition("-")[0] or "unknown system"])
    return f"{told} ({own})" if own else told


def run_name(facts: Mapping[str, str], targets: Mapping[str, str]) -> str:
    """What a run's machine is called, by its facts of the machine and of the targets.

    Runs of before accelerators were a fact of the machine name the GPU that their target found.
    """
    gpu = targets.get("cuda", NOT_FOUND)
    return short_name(facts if NOT_FOUND in gpu else {"accelerators": gpu, **facts})


_UNNAMED = ("machine", "cpu_flags", "cpu_cores_physical")


def unnamed(facts: Mapping[str, str]) -> str:
    """Hash of what a machine's name leaves out of its identity: architecture, features of the processor, real cores.

    Tells machines of one name apart, as where a hypervisor hides AVX-512 from one of them.  Empty where one of these is
    not among the `facts`, as in what a hand has written: then nothing is known of it.
    """
    if any(name not in facts for name in _UNNAMED):
        return ""
    return hashlib.sha256("\n".join(facts[name] for name in _UNNAMED).encode()).hexdigest()


def processor_of(name: str) -> str:
    """The processor in a machine's name."""
    return name.partition(", ")[0]


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
    """Marketing name of the processor; of an Arm one, which seldom has any, those of its board and its cores."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if match:
            return match.group(1).strip()
    if platform.system() == "Darwin":
        line = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(line, capture_output=True, text=True, check=False).stdout.strip()
    board = Path("/proc/device-tree/model")
    # Its words are asked for in English.
    told = _answered(("env", "LC_ALL=C", "lscpu")) if shutil.which("lscpu") else ()
    named = board_name(board.read_text(errors="replace") if board.is_file() else "", told)
    return named or platform.processor() or platform.machine()


def board_name(model: str, lscpu: Iterable[str]) -> str:
    """Kinds of core and their board, `Cortex-A76 (Raspberry Pi 5 Model B Rev 1.0)`; empty where neither is told.

    `model` is what the device tree says, which ends in a NUL; `lscpu` are that program's lines: of a processor with two
    kinds of cores it names both, and one that it does not know it calls `-`.
    """
    told = (line.partition(":")[2].strip() for line in lscpu if line.startswith("Model name:"))
    cores = " + ".join(dict.fromkeys(core for core in told if core.strip("-")))
    board = model.rstrip("\0").strip()
    return f"{cores} ({board})" if cores and board else cores or board


@cache
def cpu_flags() -> tuple[str, ...]:
    """Features of the processor, in the words of /proc/cpuinfo; empty where there is no such file."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ()
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
    return tuple(sorted(match.group(1).split())) if match else ()


def commit() -> str:
    """Commit that this code is of: that of its checkout, or what a bundle was packed of; empty where neither tells."""
    if not places.IN_CHECKOUT:
        return ""
    packed = places.ROOT / PACKED_COMMIT
    return packed.read_text(encoding="ascii").strip() if packed.is_file() else git_commit(places.ROOT)


def git_commit(directory: Path) -> str:
    """Commit of the checkout at `directory`, with `+changes` when the tree differs from it; empty outside git.

    Empty too where the folder only lies somewhere in a checkout: that one is somebody else's.
    """
    if shutil.which("git") is None:
        return ""
    head = git(directory, "rev-parse", "HEAD", "--show-toplevel")
    if head.returncode:
        return ""
    commit, top = os.fsdecode(head.stdout).splitlines()
    if Path(top).resolve() != directory.resolve():
        return ""
    changed = git(directory, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+changes" if changed.stdout.strip() else "")


def git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in the checkout at `directory`, also where it belongs to another user (a mounted folder, a CI runner).

    git refuses such a checkout since its configuration can name programs; of this one the code itself runs already.
    """
    command = ["git", "-c", f"safe.directory={directory.resolve()}", *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, check=False)

"""Packages of a lock as wheels for another Python on another machine.

pip fetches them as they were published, for a Python and a platform that need not be here.  What a lock says of
platforms is judged for that machine.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.environments.installers import TORCH_PIN, clean, find_pip, for_gpu, run, uv_variables
from bench.reasons import CellProblem, UsageError

_PLATFORM = re.compile(r"(?P<system>manylinux|macosx)_(?P<major>\d+)_(?P<minor>\d+)_(?P<machine>\w+)")
_PYTHON = re.compile(r"3\.\d+")
_SYSTEMS = {"manylinux": ("linux", "Linux"), "macosx": ("darwin", "Darwin")}
_NAMED = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
"""Older names of manylinux_2_N (PEP 600)."""
_FIRST_NAMED = 5


@dataclass(frozen=True)
class Elsewhere:
    """A machine: the version of its Python as "3.12", and the newest platform whose wheels it takes.

    The platform is a tag as wheels have it, "manylinux_2_28_x86_64" or "macosx_14_0_arm64".  Raises UsageError for
    others.
    """

    python: str
    platform: str

    def __post_init__(self) -> None:
        """Refuse what pip would find no wheels for."""
        if not _PYTHON.fullmatch(self.python):
            raise UsageError(f"--python {self.python}: give a version such as 3.11")
        if not _PLATFORM.fullmatch(self.platform):
            raise UsageError(
                f"--platform {self.platform}: give a tag of wheels such as manylinux_2_28_x86_64 (its glibc is 2.28 or "
                "newer, `ldd --version`), manylinux_2_28_aarch64 or macosx_14_0_arm64"
            )

    def tags(self) -> list[str]:
        """The platforms whose wheels it takes.  Of macOS pip knows the older ones itself."""
        found = self._parts()
        if found["system"] == "macosx":
            return [self.platform]
        minor, machine = int(found["minor"]), found["machine"]
        tags = [f"manylinux_2_{number}" for number in range(minor, _FIRST_NAMED - 1, -1)]
        tags += [name for name, number in _NAMED.items() if number <= minor]
        return [f"{tag}_{machine}" for tag in tags]

    def markers(self) -> dict[str, str]:
        """What markers of a requirement ask of a machine."""
        found = self._parts()
        name, system = _SYSTEMS[found["system"]]
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "sys_platform": name,
            "platform_system": system,
            "platform_machine": found["machine"],
        }

    def _parts(self) -> dict[str, str]:
        match = _PLATFORM.fullmatch(self.platform)
        assert match is not None, "as it was made"
        return match.groupdict()


@dataclass(frozen=True)
class Divided:
    """A lock's packages for a machine: exact requirements to `carry`, names of those `left` out."""

    carry: tuple[str, ...]
    left: tuple[str, ...]


def divided(lock: str, machine: Elsewhere, left: Sequence[str] = ()) -> Divided:
    """Divide the requirements of a lock that are meant for a machine by patterns of names, as in `nvidia-*`."""
    lines = [Requirement(line) for line in lock.splitlines() if line.strip() and not line.startswith("#")]
    markers = machine.markers()
    meant = [one for one in lines if one.marker is None or one.marker.evaluate(markers)]
    names = {str(canonicalize_name(one.name)): f"{one.name}{one.specifier}" for one in meant}
    stay = [name for name in names if any(fnmatch(name, pattern.lower()) for pattern in left)]
    return Divided(tuple(names[name] for name in names if name not in stay), tuple(stay))


def fetch(family: str, lock: str, wanted: Divided, machine: Elsewhere, folder: Path) -> None:
    """Put a wheel of each package to carry of a family, whose whole `lock` that is, into `folder`.

    Raises UsageError where pip is missing, or one of them has no wheel for that machine.
    """
    base = str(getattr(sys, "_base_executable", "") or sys.executable)
    folder.mkdir(parents=True, exist_ok=True)
    command = [*find_pip(base), "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), "--python-version", machine.python]
    command += [word for tag in machine.tags() for word in ("--platform", tag)]
    # Which folders offer a build of torch that the family is meant for, uv is told; pip keeps to the same.
    links = uv_variables(lock).get("UV_FIND_LINKS", "").replace(",", " ")
    said: list[str] = []
    try:
        variables = clean(os.environ) | {"PIP_FIND_LINKS": links or str(folder)}
        run(family, [*command, *wanted.carry], variables, folder, said.append)
    except CellProblem as problem:
        raise UsageError(
            f"the packages of {family} cannot be had for Python {machine.python} on {machine.platform}: leave out with "
            f"--leave what that machine has itself, or choose its Python and platform otherwise.\n" + "\n".join(said)
        ) from problem
    _require_torch_for_cpus(family, lock, wanted, machine, folder)


def _require_torch_for_cpus(family: str, lock: str, wanted: Divided, machine: Elsewhere, folder: Path) -> None:
    """Raise UsageError where the index served a CUDA build of torch, whose libraries the family's lock has not."""
    carried = TORCH_PIN.search("\n".join(wanted.carry)) is not None and not for_gpu(lock)
    if carried and machine.markers()["platform_machine"] == "x86_64" and "linux" in machine.platform:
        (wheel,) = folder.glob("torch-*.whl")
        if "+cpu" not in wheel.name:
            raise UsageError(
                f"pip's index serves {wheel.name} for {family}, a build for CUDA: let pip find PyTorch's build for "
                "CPUs (a folder with its wheel in find-links, or PyTorch's own index in extra-index-url), or leave "
                "torch out with --leave torch,torchvision"
            )

"""What a run needs, what of it is here, and how to get the rest."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.environments import installers
from bench.environments.locked import Environments
from bench.grid import machine, matrix
from bench.grid.matrix import Matrix
from bench.grid.request import Request
from bench.reasons import CellProblem, UsageError
from bench.wall.confinement import refusals

# Environments, artifacts and images of the four options of the smallest sweep, with room to build them.
DISK_BYTES_NEEDED = 6 * 10**9


@dataclass(frozen=True)
class Check:
    """Something that was looked at: whether it is as a run needs it, and in words what was seen or is missing."""

    name: str
    good: bool
    text: str


@dataclass(frozen=True)
class EnvironmentState:
    """An environment of the matrix: which options use it and how, and whether it is there."""

    family: str
    users: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Checkup:
    """The state of a machine.  Without every one of `needed` there can be no run; targets are a matter of hardware."""

    needed: tuple[Check, ...]
    targets: tuple[Check, ...]
    environments: tuple[EnvironmentState, ...]

    @property
    def ready(self) -> bool:
        """Whether a run can be made here."""
        return all(check.good for check in self.needed)


def examine(request: Request) -> Checkup:
    """Look at this machine.  Nothing is built or changed.  Raises UsageError for a matrix that cannot be read."""
    read = matrix.load(request.matrices)
    targets = ((name, machine.detect(target)) for name, target in read.targets.items())
    return Checkup(
        needed=(_python(), _installer(), _disk(request.cache), _guests()),
        targets=tuple(Check(name, presence.found, presence.text) for name, presence in targets),
        environments=tuple(_environments(read, request.cache)),
    )


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] == tuple(map(int, installers.PYTHON_VERSION.split("."))):
        return Check("Python", True, version)
    uv = installers.find_uv()
    text = f"{version}; the environments use {installers.PYTHON_VERSION}, which " + (
        f"uv finds or fetches ({uv})" if uv else f"must be installed: this Python is not {installers.PYTHON_VERSION}"
    )
    return Check("Python", uv is not None, text)


def _installer() -> Check:
    uv = installers.find_uv()
    if uv:
        return Check("Installer", True, f"uv: {uv}")
    try:
        pip = " ".join(installers.find_pip(sys.executable))
    except UsageError as error:
        return Check("Installer", False, str(error))
    return Check("Installer", True, f"{pip} (slower than uv: `pip install uv`)")


def _disk(cache: Path) -> Check:
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text = f"{free / 1e9:.0f} GB free for {cache}; a first run needs up to {DISK_BYTES_NEEDED / 1e9:.0f} GB"
    return Check("Disk", free > DISK_BYTES_NEEDED, text)


def _guests() -> Check:
    """What guests are kept from.  A run can be made either way; its rows say which."""
    refused = [f"{what}: {why}" for what, why in refusals().items()]
    return Check("Guests", True, "; ".join(refused) or "no network, and no file to write but their own")


def _environments(read: Matrix, cache: Path) -> Iterator[EnvironmentState]:
    users: dict[str, list[str]] = {}
    for option in read.options.values():
        if option.export is None:
            continue
        for family in dict.fromkeys((option.environment, *option.environments.values())):
            users.setdefault(family, []).append(f"{option.name} (run)")
        users.setdefault(option.export.environment, []).append(f"{option.name} (export)")
    built = Environments(read.directory, cache)
    for family, names in users.items():
        yield EnvironmentState(family, tuple(names), _state(built, family))


def _state(built: Environments, family: str) -> str:
    try:
        env = built.existing(family)
    except CellProblem as problem:  # an interpreter of the user's that cannot run a guest costs its own row
        return problem.text
    if env is None:
        return "not built yet"
    return "yours, not locked" if env.bytes is None else f"built, {env.bytes / 1e6:.0f} MB"

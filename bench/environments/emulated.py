"""Guests on a processor that this machine has not: whether their results are right there, never how fast.

`--emulate arm64` runs the guests of a target with the Arm build of their runtime under QEMU (emulator.py beside this).
An environment for them holds the wheels for that machine of the very lock that such a computer would use.  Its
interpreter is a script that starts the emulator, so the worker notices no difference.

QEMU is given a Debian system as a prefix, in which it looks for absolute paths first: a guest finds its own libraries
there, and the worker's files where the core has put them.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from bench.environments import emulator
from bench.environments.installers import (
    PYTHON_VERSION,
    OnOutput,
    alone,
    base_python,
    clean,
    find_pip,
    find_uv,
    overrides,
    run,
    uv_variables,
    version,
)
from bench.environments.locked import Env, Environments
from bench.environments.locks import no_deps

_OLDEST_GLIBC = 17  # minor version in the oldest platform tag that wheels carry (PEP 600)


class EmulatedEnvironments(Environments):
    """Environments that hold the wheels for an emulated machine."""

    def __init__(self, matrices_dir: Path, cache_dir: Path, name: str) -> None:
        """Nothing is written before `ensure`.  Raises UsageError for an emulator that is not there, or is wrong."""
        super().__init__(matrices_dir, cache_dir)
        self.system = emulator.System(name, emulator.load(matrices_dir, name), cache_dir)

    def ensure(self, family: str, on_output: OnOutput | None = None) -> Env:
        """As for this machine, and the system under it too.  Raises CellProblem where it cannot be had."""
        self.system.ensure(on_output or _ignore)
        return super().ensure(family, on_output)

    def identity(self, family: str) -> str:
        """As for this machine, and the system under it, whose folder is called by what it is made of."""
        return f"{super().identity(family)} {self.system.directory.name}"

    def _external(self, family: str) -> Env | None:
        """Nothing: an interpreter that the user brings is of this machine."""
        del family
        return None

    def _platform(self) -> tuple[str, str]:
        return "linux", self.system.emulator.machine

    def _beneath(self) -> tuple[str, ...]:
        return (str(self.system.directory),)

    def _install(self, family: str, directory: Path, text: str, backend: str, say: OnOutput, requirements: Path) -> str:
        """Lay out a venv as the venv module does, and put the lock's wheels into it; `backend` has no counterpart."""
        del backend
        system = self.system
        folder = directory / "bin"
        folder.mkdir()
        python = folder / f"python{PYTHON_VERSION}"
        python.symlink_to(system.python)
        settings = f"home = {system.python.parent}\nversion = {system.facts['python']}\n"
        (directory / "pyvenv.cfg").write_text(settings, encoding="utf-8")
        script = folder / "python"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(system.command(python))} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        site = directory / "lib" / f"python{PYTHON_VERSION}" / "site-packages"
        return _install_wheels(family, site, requirements, text, system.emulator, say)


def _ignore(_line: str) -> None:
    """Take an installer's line and do nothing with it."""


def _install_wheels(
    family: str, site: Path, requirements: Path, text: str, machine: emulator.Emulator, say: OnOutput
) -> str:
    """Put a lock's wheels for the machine into `site`; returns the installer's version."""
    arguments = ["--target", str(site), "--python-version", PYTHON_VERSION, "--only-binary", ":all:", *no_deps(text)]
    newest = int(machine.glibc.partition(".")[2])
    uv, base = find_uv(), base_python()
    if uv is not None:
        fitting = ["--python-platform", f"{machine.machine}-manylinux_2_{newest}"]
        command = [uv, "pip", "install", "--python", base or PYTHON_VERSION, *fitting, *overrides(text), *arguments]
        run(family, [*command, "-r", str(requirements)], uv_variables(text), site.parents[2], say)
        return version(uv, "--version")
    pip = find_pip(base or "python3")
    tags = [f"manylinux_2_{minor}_{machine.machine}" for minor in range(newest, _OLDEST_GLIBC - 1, -1)]
    fitting = [part for tag in (*tags, f"manylinux2014_{machine.machine}") for part in ("--platform", tag)]
    command = [*pip, "install", "--disable-pip-version-check", "--implementation", "cp", *fitting, *alone(text)]
    run(family, [*command, *arguments, "-r", str(requirements)], clean(os.environ), site.parents[2], say)
    return version(*pip, "--version").split(" from ")[0]

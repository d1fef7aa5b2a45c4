"""Packages really built and really installed, into environments of their own, where nothing of the checkout shows.

What they need they take from the environment that these tests run in: it holds the versions of the core's lock, which
the tests of the wheel hold against what the wheel asks for, and its byte code is there already.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.environments.installers import clean, find_uv, uv_variables
from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import ROOT


def build(source: Path, out: Path, *kinds: str) -> Path:
    """The wheel built from `source` into `out`: without `kinds` (--wheel) from the sdist, which is built first."""
    command = [sys.executable, "-m", "build", "--no-isolation", *kinds, "--outdir", str(out), str(source)]
    done = subprocess.run(command, env=clean(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


def build_editable(source: Path, out: Path) -> Path:
    """The wheel by which `pip install -e` installs `source`."""
    code = "import sys, hatchling.build; hatchling.build.build_editable(sys.argv[1])"
    command = [sys.executable, "-c", code, str(out)]
    done = subprocess.run(command, cwd=source, env=clean(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Venv:
    """A virtual environment in `folder`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, *wheels: Path) -> Venv:
        """A new one with these wheels."""
        made = cls(folder)
        made._uv("venv", "--python", sys.executable, str(folder))
        (made.site_packages / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        for wheel in wheels:
            made.install(wheel)
        return made

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where its packages are."""
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found

    def install(self, wheel: Path) -> None:
        """Add a wheel, and nothing that it needs."""
        self._uv("pip", "install", "--python", str(self.python), "--no-deps", str(wheel))

    def uninstall(self, name: str) -> None:
        """Take a distribution out."""
        self._uv("pip", "uninstall", "--python", str(self.python), name)

    def run(self, program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment, run in `cwd`, with the user's cache."""
        variables = clean(os.environ) | {CACHE_VARIABLE: str(Request({}).cache), "COLUMNS": "200"}
        own = self.folder / "bin" / program
        command = [str(own)] if own.exists() else [str(self.python), "-m", program]
        command += map(str, arguments)
        return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=900)

    def _uv(self, *arguments: str) -> None:
        uv = find_uv()
        assert uv is not None, "uv is in the lock of the core"
        done = subprocess.run([uv, *arguments], env=uv_variables(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Everything that a program printed."""
    return done.stdout + done.stderr


def files_below(folder: Path, names: Sequence[str] = ("",)) -> set[str]:
    """Relative paths of the files below these folders of `folder`, byte code left out."""
    found = (path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)) for path in found if "__pycache__" not in path.parts}


def copied_project(folder: Path) -> Path:
    """A copy of the checkout without what is made in it."""
    made = ("__pycache__", ".*", "results", "venv", "*.whl")
    return shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*made))

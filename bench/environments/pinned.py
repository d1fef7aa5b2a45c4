"""Environments with some packages at other versions, everything else as locked: a side of a comparison.

`onnxruntime==1.24.4` is the lock with that one version, and what else must change for it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from bench.environments.installers import PYTHON_VERSION, find_uv, torch_backend, uv_variables
from bench.environments.locked import Env, Environments
from bench.environments.locks import LOCAL_LABEL, no_deps
from bench.reasons import UsageError

PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+]+)$")


class PinnedEnvironments(Environments):
    """Environments in which the given packages have the given versions."""

    def __init__(self, matrices_dir: Path, cache_dir: Path, pins: Sequence[str]) -> None:
        """`pins` are name==version.  Raises UsageError for another form.  Nothing is written before `ensure`."""
        super().__init__(matrices_dir, cache_dir)
        wrong = [pin for pin in pins if not PIN.fullmatch(pin)]
        if wrong or not pins:
            raise UsageError(f"{', '.join(wrong) or 'nothing'}: give packages as name==version, commas between several")
        self._pins = tuple(pins)
        self._source = matrices_dir / "envs"

    def lock_text(self, family: str) -> str:
        """The family's lock with the pins in it.  Raises UsageError where it holds none of the packages.

        Also where no set of versions has the pins; packages beside them change only where they must.
        """
        return _pinned(super().lock_text(family), family, self._pins)

    def _external(self, family: str) -> Env | None:
        """Nothing: an interpreter that the user brings has no lock to change."""
        del family
        return None


@cache
def _pinned(text: str, family: str, pins: tuple[str, ...]) -> str:
    wanted = {_normal(pin.partition("==")[0]): pin for pin in pins}
    lines = text.splitlines()
    held = [line for line in lines if _normal(line.partition("==")[0]) in wanted]
    if not held:
        raise UsageError(f"the environment {family} holds none of {', '.join(wanted)}; it has: {_names(lines)}")
    uv = find_uv()
    if no_deps(text) or uv is None:
        return "\n".join(wanted.get(_normal(line.partition("==")[0]), line) for line in lines) + "\n"
    others = [line for line in lines if line not in held]
    done = _compile(uv, text, [*others, *wanted.values()])
    if done.returncode:  # what the pins ask for may have to move
        done = _compile(uv, text, [*_bare(others), *wanted.values()])
    if done.returncode:
        raise UsageError(f"no set of versions for {family} with {', '.join(pins)}.\n{done.stderr.strip()}")
    found = LOCAL_LABEL.sub(r"\1", done.stdout).splitlines()
    return "\n".join(sorted(line for line in found if line.strip())) + "\n"


def _compile(uv: str, text: str, requirements: Sequence[str]) -> subprocess.CompletedProcess[str]:
    command = [uv, "pip", "compile", "--quiet", "--python-version", PYTHON_VERSION, "--no-header", "--no-annotate"]
    command += ["--no-emit-index-url", "--no-emit-find-links", *torch_backend(text, ""), "-"]
    given = "\n".join(requirements) + "\n"
    return subprocess.run(command, input=given, env=uv_variables(text), capture_output=True, text=True, check=False)


def _bare(lines: Sequence[str]) -> list[str]:
    return [line.partition("==")[0] for line in lines if line.strip() and not line.startswith("#")]


def _names(lines: Sequence[str]) -> str:
    return ", ".join(_bare(lines))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()

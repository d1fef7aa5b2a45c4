"""An interpreter that the user brings instead of a locked environment.

`BENCH_ENV_PYTORCH_CUDA=/usr/bin/python3` runs the family `pytorch-cuda` with that interpreter: for machines whose
vendor ships the build of a runtime that fits them (a Jetson, a GPU server without internet).  What it holds is recorded
with the run; the lock is not claimed, and nothing is ever installed into it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.reasons import CellProblem, Reason

PREFIX = "BENCH_ENV_"
OLDEST = (3, 11)  # of the guest server
_SECONDS = 60
_QUESTION = """
import importlib.util, json, sys
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "folders": [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))],
    "numpy": importlib.util.find_spec("numpy") is not None,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python the user named: its version and the folders it takes packages from."""

    python: Path
    version: str
    folders: tuple[Path, ...]


def variable(family: str) -> str:
    """Name of the environment variable that replaces a family."""
    return PREFIX + family.upper().replace("-", "_")


def given(family: str) -> str:
    """What the user named for a family; empty when nothing."""
    return os.environ.get(variable(family), "")


def look(family: str, named: str, variables: Mapping[str, str]) -> Interpreter:
    """The interpreter that the user `named` for a family, asked in the guests' environment, `variables`.

    Raises CellProblem(ENVIRONMENT_FAILED) when it cannot be started, is too old for the guest server, or has no numpy.
    """
    name = variable(family)
    python = Path(named).expanduser().absolute()  # not resolved: a venv is told by the link's place
    try:
        done = subprocess.run(
            [str(python), "-s", "-c", _QUESTION],
            env=dict(variables),
            cwd="/",
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unusable(name, named, str(error)) from error
    if done.returncode != 0:
        raise _unusable(name, named, (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1])
    try:
        facts = json.loads(done.stdout)
    except ValueError as error:
        raise _unusable(name, named, f"it is no Python, it answered {done.stdout[:80]!r}") from error
    version = ".".join(map(str, facts["version"]))
    if tuple(facts["version"][:2]) < OLDEST:
        raise _unusable(name, named, f"it is Python {version}; guests need {'.'.join(map(str, OLDEST))} or newer")
    if not facts["numpy"] or not facts["folders"]:
        raise _unusable(name, named, "it has no numpy, which every guest needs")
    return Interpreter(python, version, tuple(dict.fromkeys(Path(folder) for folder in facts["folders"])))


def _unusable(name: str, named: str, why: str) -> CellProblem:
    return CellProblem(
        Reason.ENVIRONMENT_FAILED,
        f"{name} names {named}, which cannot run a guest: {why}. Name a Python interpreter that has the option's "
        "packages, or unset the variable for the locked environment.",
    )

"""Locks: what one may hold, and how it is made of what a family of environments asks for.

Some packages ask for more than what is used of them needs, or for versions that exclude each other.  In an .in file
they stand below the line `# bench: no-deps` with exact versions; what they do need is listed above it.  The lock then
begins with that line and is installed as it stands, without resolving dependencies.  A package may stand in both
parts: the line below wins, with the platforms it is meant for.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from bench.environments.installers import PYTHON_VERSION, find_uv, overrides, torch_backend, uv_variables
from bench.files import exists
from bench.reasons import UsageError

NO_DEPS = "# bench: no-deps"
LOCAL_LABEL = re.compile(r"^([A-Za-z0-9._-]+==[^+\s]+)\+\S+", re.MULTILINE)
EXACT = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+( ; (?!.* -).+)?")
"""A line of a lock.  No address, no path, no option for the installer: those could run anything while it installs."""


def lock(family: str, matrices_dir: Path) -> Path:
    """Resolve `<matrices_dir>/envs/<family>.in` for x86-64 Linux and write `<family>.txt` beside it.

    Raises UsageError when there is no .in file, uv is missing, or the resolver finds no solution.
    """
    folder = matrices_dir / "envs"
    source = folder / f"{family}.in"
    if not exists(source):
        raise UsageError(f"{source} does not exist: write in it what the environment '{family}' needs, one per line.")
    uv = find_uv()
    if uv is None:
        raise UsageError("uv is needed to write a lock and was not found; run `python -m pip install uv`.")
    text = source.read_text(encoding="utf-8")
    resolved, _, alone = text.partition(NO_DEPS)
    pins = [line.strip() for line in alone.splitlines() if line.strip() and not line.strip().startswith("#")]
    loose = [pin for pin in pins if not EXACT.fullmatch(pin)]
    if loose:
        raise UsageError(f"{source}: below '{NO_DEPS}' every line must be name==version; not: {', '.join(loose)}.")
    command = [uv, "pip", "compile", "--quiet", "--python-version", PYTHON_VERSION]
    command += ["--python-platform", "x86_64-manylinux_2_28", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--no-emit-find-links", *overrides(text)]
    command += [*torch_backend(text, os.environ.get("BENCH_TORCH_BACKEND", "")), "-"]
    done = subprocess.run(
        command, cwd=folder, env=uv_variables(text), input=resolved, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise UsageError(f"{source}: no set of versions satisfies it.\n{done.stderr.strip()}")
    # A label such as "+cpu" names one index's build of the same release. PyPI refuses labels, so a lock that keeps
    # one could only be installed where that build is served.
    found = [line for line in LOCAL_LABEL.sub(r"\1", done.stdout).splitlines() if line.strip()]
    replaced = {pin.partition("==")[0] for pin in pins}
    lines = sorted([line for line in found if line.partition("==")[0] not in replaced] + pins)
    if pins:
        lines.insert(0, NO_DEPS)
    path = folder / f"{family}.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def no_deps(text: str) -> list[str]:
    """The installers' option for a lock that is complete although its packages ask for more."""
    return ["--no-deps"] if text.startswith(NO_DEPS) else []

"""Starts a program in this environment on given CPUs, which it is given before any library counts them.

    python -s -P launch.py [--cpus 0,1] [--network] [--writable DIR]... PROGRAM [ARGUMENT]...

PROGRAM is a file of Python, or the name under which a package of this environment installs a program, whatever folder
that lies in.  The other words are those of ../seal.py, and keep it from as much as they keep a guest.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import runpy
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any


def main() -> None:
    """Give way to the program, in this very process."""
    seal = _seal()
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpus", default="")
    seal.add_arguments(parser)
    parser.add_argument("program")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if given.cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in given.cpus.split(",")})
    seal.apply(given)
    sys.argv = [given.program, *given.arguments]
    if Path(given.program).is_file():
        runpy.run_path(given.program, run_name="__main__")
        return
    found = entry_points(group="console_scripts", name=given.program)
    if not found:
        sys.exit(f"no package of {sys.prefix} installs a program {given.program}")
    sys.exit(next(iter(found)).load()())


def _seal() -> Any:
    """The module beside this folder, which is no package to a program."""
    spec = importlib.util.spec_from_file_location("seal", Path(__file__).parents[1] / "seal.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()

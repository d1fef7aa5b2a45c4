"""Starts a program in this environment on given CPUs, which it is given before any library counts them.

    python -s -P launch.py CPUS PROGRAM [ARGUMENT]...

CPUS are separated by commas, empty for all.  PROGRAM is a file of Python, or the name under which a package of this
environment installs a program, whatever folder that lies in.
"""

from __future__ import annotations

import os
import runpy
import sys
from importlib.metadata import entry_points
from pathlib import Path


def main() -> None:
    """Give way to the program, in this very process."""
    cpus, program, *arguments = sys.argv[1:]
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    sys.argv = [program, *arguments]
    if Path(program).is_file():
        runpy.run_path(program, run_name="__main__")
        return
    found = entry_points(group="console_scripts", name=program)
    if not found:
        sys.exit(f"no package of {sys.prefix} installs a program {program}")
    sys.exit(next(iter(found)).load()())


if __name__ == "__main__":
    main()

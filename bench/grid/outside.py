"""Formats from outside: installed packages that bring options of their own.

A package names itself in the entry point group `yolo11_bench.formats`; its folder then is to its options what the
project's own folders are to ours, with any of

    options/<id>.toml      the option, as in matrices/options
    envs/<family>.txt      locks of environment families, and <family>/package-lock.json for JavaScript packages
    runtimes/<name>.py     adapters, as in bench/guest/runtimes
    exporters/<name>.py    exporters, as in bench/guest/exporters

The package is looked up and never imported here: its adapters run in guests, as ours do.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from importlib import metadata
from pathlib import Path

from bench.reasons import UsageError

GROUP = "yolo11_bench.formats"


@cache
def folders() -> dict[str, Path]:
    """Folder of every such package, by the name of its entry point.  Raises UsageError for one that cannot be found."""
    found = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda one: one.name):
        try:
            spec = importlib.util.find_spec(entry.module)
        except ImportError as error:
            raise UsageError(
                f"the entry point {entry.name!r} of {GROUP}: {entry.module} cannot be found: {error}"
            ) from error
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not places:
            raise UsageError(
                f"the entry point {entry.name!r} of {GROUP} names {entry.module}, which is no installed package with a "
                "folder; correct it in that package's pyproject.toml, or uninstall it"
            )
        found[entry.name] = Path(places[0])
    return found


def lock_folders(matrices: Path) -> list[Path]:
    """Folders that hold locks: that of the matrix, then those of packages from outside."""
    return [matrices / "envs", *(folder / "envs" for folder in folders().values())]

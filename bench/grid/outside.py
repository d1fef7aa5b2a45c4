"""Formats from outside: installed packages that bring options of their own.

A package names its module in the entry point group `yolo11_bench.formats`.  The module's folder then is to its options
what the project's own folders are to ours, with

    options/<id>.toml      the option, as in matrices/options; at least one

and whatever of these the option needs and the project does not have:

    runtimes/<name>.py     adapters, as in bench/guest/runtimes
    exporters/<name>.py    exporters, as in bench/guest/exporters
    envs/<family>.txt      locks of environment families, and <family>/package-lock.json for JavaScript packages

`yolo11-bench lock <family> --matrices FOLDER` makes a lock there from envs/<family>.in.  Ids of options and names of
families are those of no other package; a file of a package's own is used before one of ours of the same name.  The
package is looked up and never imported here: its adapters run in guests, as ours do, and import as ours do what lies
beside them (`from ._helper import f`) and our refusals (`from ..refusals import TargetAbsent`).  What several of its
exporters share begins with an underscore: artifacts are made anew when it changes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

from bench.reasons import UsageError

GROUP = "yolo11_bench.formats"


@cache
def folders() -> dict[str, Path]:
    """Folder of every such package, by the name of its module.

    Raises UsageError for one that cannot be found or brings no option.
    """
    found = {}
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda one: (one.value, one.name)):
        folder = _folder(entry)
        if not any((folder / "options").glob("*.toml")):
            raise _fault(entry, f"{folder / 'options'} holds no option")
        found[entry.value] = folder
    return found


def lock_folders(matrices: Path) -> list[Path]:
    """Folders that hold locks: that of the matrix, then those of packages from outside."""
    return [matrices / "envs", *(folder / "envs" for folder in folders().values())]


def the_one(folders_of_locks: Sequence[Path], name: str) -> Path | None:
    """The file `name` in those of the folders that have it.  Raises UsageError when there are several."""
    found = [path for folder in folders_of_locks if (path := folder / name).is_file()]
    if len(found) > 1:
        places = " and ".join(map(str, found))
        raise UsageError(f"{places}: two locks of one name; a package from outside gives its families names of its own")
    return found[0] if found else None


def _folder(entry: metadata.EntryPoint) -> Path:
    """Folder of the package that an entry point names.  Raises UsageError."""
    try:
        spec = importlib.util.find_spec(entry.value)
    except (ImportError, ValueError) as error:  # a parent that is not there; no name of a module
        raise _fault(entry, f"it cannot be found: {error}") from error
    if spec is None:
        raise _fault(entry, "there is no such module")
    if not spec.submodule_search_locations:
        raise _fault(entry, "that is a module and no package with a folder")
    return Path(next(iter(spec.submodule_search_locations)))


def _fault(entry: metadata.EntryPoint, what: str) -> UsageError:
    """What is wrong with an entry point, whose it is, and what to do."""
    owner = entry.dist.name if entry.dist is not None else "the package that has it"
    return UsageError(
        f"the entry point {entry.name} = {entry.value} ({GROUP}) of {owner}: {what}. Correct it in that package's "
        f"pyproject.toml, or uninstall {owner}."
    )

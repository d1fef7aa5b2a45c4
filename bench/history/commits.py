"""Changes of the dataset that happen as a whole, or not at all, whenever the process dies.

New folders are written aside; one file then lists what takes whose place, and from the moment it is there the change
has happened.  Whoever opens the dataset next finishes what is listed and throws away what is not.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from bench.files import locked, replacing
from bench.history import layout
from bench.history.layout import Partition
from bench.reasons import StoreError

STAGED = ".staged"
_COMMIT, _NEW, _OLD = "commit.json", "new", "old"

Written = tuple[Partition, Mapping[str, pa.Table]]
"""A folder of the dataset with its tables."""


@contextmanager
def held(root: Path) -> Iterator[None]:
    """Keep other processes from the dataset, and have it whole.  Raises StoreError where the disk refuses."""
    try:
        with locked(root):
            _settle(root)
            yield
    except OSError as error:
        raise StoreError(
            f"{root}: {error}; look at the permissions of the folder and at the room on its disk"
        ) from error


def publish(root: Path, folders: Iterable[Written], gone: Iterable[Partition] = ()) -> None:
    """Replace folders of the dataset, and remove some, in one step; the dataset is `held`.

    Of `folders` one is in memory at a time.  Raises StoreError for what cannot be written; nothing has changed then.
    """
    staged = root / STAGED
    places = []
    try:
        for partition, written in folders:
            for name, table in written.items():
                layout.write(staged / _NEW / partition.path, name, table)
            places.append(str(partition.path))
        listed = {_NEW: places, "gone": [str(one.path) for one in gone]}
        if not any(listed.values()):
            return
        with replacing(staged / _COMMIT) as sink:
            sink.write(json.dumps(listed).encode())
    except BaseException:  # Ctrl-C too
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _settle(root)


def _settle(root: Path) -> None:
    """Finish the change that is listed, wherever it was left; remove one that is not."""
    staged = root / STAGED
    if (staged / _COMMIT).is_file():
        listed = json.loads((staged / _COMMIT).read_text(encoding="utf-8"))
        for place in listed[_NEW]:
            if (staged / _NEW / place).is_dir():  # else it is in its place already
                _move(root / place, staged / _OLD / place)
                _move(staged / _NEW / place, root / place)
        for place in listed["gone"]:
            _move(root / place, staged / _OLD / place)
    if staged.is_dir():
        shutil.rmtree(staged)


def _move(source: Path, target: Path) -> None:
    if source.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)

"""Parts of a table that grows while a run goes on: a file for each addition, until the table is written whole.

To write such a table anew for each addition would cost the square of its rows; to keep it in memory would lose it with
the process.  Once the whole table is there it is all that counts: whoever dies before the parts are gone leaves them
behind, and nothing is read twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from bench.reasons import StoreError
from bench.store import parquet
from bench.store.parquet import Only

FOLDER = "parts"


def whole(directory: Path, name: str) -> Path:
    """Where table `name` of a run stands as a whole."""
    return directory / f"{name}.parquet"


def files(directory: Path, name: str) -> list[Path]:
    """The files that hold table `name` now, in the order of its rows: the whole one, or its parts."""
    path = whole(directory, name)
    return [path] if path.is_file() else _parts(directory, name)


def upcoming(directory: Path, name: str) -> Path:
    """Where the next part of a table is to be written."""
    return directory / FOLDER / f"{name}-{len(_parts(directory, name)):05d}.parquet"


def read(directory: Path, name: str, only: Only | None = None, columns: Sequence[str] | None = None) -> pa.Table | None:
    """What is there of a table of a run, as it was written; None where nothing is.  Raises StoreError.

    `only` and `columns` are those of `bench.store.parquet.read`.
    """
    while True:
        listed = files(directory, name)
        try:
            found = [parquet.read(path, only, columns) for path in listed]
            break
        except StoreError:
            if files(directory, name) == listed:
                raise
            # else a run that goes on has just made them one table
    return pa.concat_tables(found).unify_dictionaries() if len(found) > 1 else found[0] if found else None


def remove(directory: Path, name: str) -> None:
    """Delete the parts of a table, and the folder with the last ones of the run.  Raises StoreError."""
    parts, folder = _parts(directory, name), directory / FOLDER
    try:
        for path in parts:
            path.unlink()
        if parts and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise StoreError(f"cannot delete the parts of {whole(directory, name)}: {error}") from error


def sweep_up(directory: Path, name: str) -> None:
    """Delete what a process that was killed while it wrote a table has left of it.  Raises StoreError."""
    for folder in (directory, directory / FOLDER):
        for path in folder.glob(f".{name}-*.tmp"):
            try:
                path.unlink()
            except OSError as error:
                raise StoreError(f"cannot delete {path}: {error}") from error


def _parts(directory: Path, name: str) -> list[Path]:
    return sorted((directory / FOLDER).glob(f"{name}-*.parquet"))

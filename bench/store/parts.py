"""Parts of a table that grows while a run goes on: a file for each addition, until the table is written whole.

To write such a table anew for each addition would cost the square of its rows; to keep it in memory would lose it with
the process.  Once the whole table is there it is all that counts: whoever dies before the parts are gone leaves them
behind, and nothing is read twice.
"""

from __future__ import annotations

from pathlib import Path

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


def remove(directory: Path, name: str) -> None:
    """Delete the parts of a table, and the folder with the last ones of the run.  Raises OSError."""
    parts = _parts(directory, name)
    for path in parts:
        path.unlink()
    folder = directory / FOLDER
    if parts and not any(folder.iterdir()):
        folder.rmdir()


def _parts(directory: Path, name: str) -> list[Path]:
    return sorted((directory / FOLDER).glob(f"{name}-*.parquet"))

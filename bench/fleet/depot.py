"""Files that jobs need, by content: found where they lie, or in the worker's own depot, or sent there once.

A worker looks at the path that the run itself uses first, so that nothing is sent where folders are shared or the
worker is a process of the same machine.  What was sent stays in `<cache>/fleet/<sha256>/` for the next run.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.files import locked, replacing
from bench.grid.request import Request
from bench.reasons import UsageError
from bench.wall import moving

FOLDER = "fleet"


@dataclass(frozen=True)
class Parcel:
    """A file by its content: the SHA-256 of it, and where it lies on the machine of the run."""

    sha256: str
    path: Path

    @classmethod
    def of(cls, path: Path) -> Parcel:
        """The parcel that a file is.  Raises UsageError where it cannot be read."""
        found = _sha256(path)
        if found is None:
            raise UsageError(f"cannot read {path}; restore it, then run again")
        return cls(found, path.resolve())


@dataclass(frozen=True)
class Delivery:
    """What a worker lacks: files with their content, and artifacts, packed, by their content address."""

    files: tuple[tuple[Parcel, bytes], ...] = ()
    artifacts: tuple[tuple[str, bytes], ...] = ()


def cache() -> Path:
    """The cache folder of this process; whoever starts a worker sets the variable that names it."""
    return Request({}).cache


def find(parcel: Parcel) -> Path | None:
    """A file of that content here, or None."""
    if _sha256(parcel.path) == parcel.sha256:
        return parcel.path
    place = _place(parcel)
    return place if _sha256(place) == parcel.sha256 else None


def lacking(parcels: Sequence[Parcel]) -> tuple[Parcel, ...]:
    """Those of some parcels that are not here, and have to be sent."""
    return tuple(parcel for parcel in dict.fromkeys(parcels) if find(parcel) is None)


def receive(delivery: Delivery) -> None:
    """Keep what was sent.  Raises UsageError for what came damaged or cannot be written, CellProblem as `moving`."""
    for parcel, content in delivery.files:
        if hashlib.sha256(content).hexdigest() != parcel.sha256:
            raise UsageError(f"{parcel.path} changed while it was sent; leave the data alone while it is evaluated")
        place = _place(parcel)
        try:
            with locked(place.parent), replacing(place) as sink:
                sink.write(content)
        except OSError as error:
            raise UsageError(f"cannot write {place}, which a worker was sent: {error.strerror or error}") from error
    for key, content in delivery.artifacts:
        moving.unpack(content, key, cache())


def token(folder: Path) -> str:
    """A word that a cache keeps: two processes that read the same have the same cache.

    Raises UsageError for a cache that cannot be written.
    """
    path = folder / FOLDER / "token"
    try:
        with locked(path):
            if not path.is_file():
                with replacing(path) as sink:
                    sink.write(secrets.token_hex(16).encode())
            return path.read_text(encoding="ascii")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another --cache") from error


def _place(parcel: Parcel) -> Path:
    """Where the depot has a file; under its own name, of which exporters read the ending."""
    return cache() / FOLDER / parcel.sha256 / parcel.path.name


def _sha256(path: Path) -> str | None:
    """Hash of a file's content, None where there is none to read; read again only when size or time has changed."""
    try:
        told = path.stat()
        return _hashed(path, told.st_size, told.st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=65_536)
def _hashed(path: Path, _size: int, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

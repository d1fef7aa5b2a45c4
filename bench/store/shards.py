"""Rows that are not a table of the run yet: files in a folder of its own, each written whole, until they are done with.

So what a long measurement has found is on disk from shard to shard, and neither in memory nor lost with the process.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from bench.reasons import StoreError
from bench.store import parquet

_OF = b"of"


class Shards:
    """The shards in a folder that are `of` one and the same thing, in the order in which they were written."""

    def __init__(self, folder: Path, of: str) -> None:
        """Take up those that are there; what is of something else is deleted.  Raises StoreError."""
        self._folder = folder
        self._of = of
        self._files = sorted(folder.glob("*.parquet"))
        if any((parquet.read(path, columns=[]).schema.metadata or {}).get(_OF) != of.encode() for path in self._files):
            self.remove()

    def add(self, rows: pa.Table) -> None:
        """Write one more.  Raises StoreError where the disk refuses; those before stay."""
        path = self._folder / f"{len(self._files):05d}.parquet"
        parquet.write(path, rows, rows.schema.with_metadata({_OF: self._of}))
        self._files.append(path)

    def read(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of each, or some of their columns.  Raises StoreError."""
        return (parquet.read(path, columns=columns) for path in self._files)

    def remove(self) -> None:
        """Delete all of them, with the folder.  Raises StoreError."""
        try:
            if self._folder.exists():
                shutil.rmtree(self._folder)
        except OSError as error:
            raise StoreError(f"cannot delete {self._folder}: {error}") from error
        self._files = []

"""Looks of a bisection on disk: a folder for each, so that one that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.reasons import StoreError
from bench.store.pairs import write_facts

FILE = "look.json"


def write(folder: Path, look: Mapping[str, Any]) -> None:
    """Write a look once it is whole; a folder without one is of a look that was stopped.

    Raises StoreError when the disk refuses.
    """
    write_facts(folder / FILE, look)


def read(parent: Path) -> Iterator[tuple[Path, Any]]:
    """Every look in the folders of `parent` with its file, oldest first.  Raises StoreError for what is no JSON."""
    for path in sorted(parent.glob(f"*/{FILE}")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        yield path, told


def damaged(path: Path, error: Exception) -> StoreError:
    """What to raise for a file that holds no look."""
    return StoreError(f"{path}: no look of a bisection: {error!r}; delete its folder")

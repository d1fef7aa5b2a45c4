"""Raw outputs of references on the images of the parity test, on disk for a run that is stopped and gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.files import replacing
from bench.reasons import StoreError
from bench.tasks.task import Outputs

FOLDER = "references"
"""Of a run: a file for each of its references."""


def keep(run: Path, cell_id: str, outputs: Sequence[Outputs]) -> None:
    """Write a reference's outputs, in the order of the images.  Raises StoreError where the disk refuses."""
    named = {f"{place}/{name}": values for place, one in enumerate(outputs) for name, values in one.items()}
    path = _path(run, cell_id)
    try:
        with replacing(path) as sink:
            np.savez(sink, allow_pickle=False, **named)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def kept(run: Path, cell_id: str) -> list[Outputs]:
    """What `keep` was given; nothing where it was given nothing.  Raises StoreError for a file that is damaged."""
    path = _path(run, cell_id)
    found: dict[int, dict[str, np.ndarray]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in file.files:
                place, _, name = key.partition("/")
                found.setdefault(int(place), {})[name] = file[key]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}; delete the run, and make it again") from error
    return [found[place] for place in sorted(found)]


def _path(run: Path, cell_id: str) -> Path:
    return run / FOLDER / f"{cell_id.replace('/', '-')}.npz"

"""What a cell detected as the results file of COCO's evaluation server (https://cocodataset.org/#format-results).

Coordinates keep the 1/32 px to which they were rounded before they were evaluated, and scores are rounded to
`SCORE_DIGITS` decimals, fewer than which would make equal what was not: so the file is worth the mAP that is stored.
COCO recommends a tenth of a pixel, for the size of the file alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from bench.decide.compare import named
from bench.reasons import UsageError
from bench.store.facts import CATEGORIES
from bench.store.reading import Run, StoredCell
from bench.store.tables import read_arrow

SCORE_DIGITS = 5
"""Stored scores are multiples of 2^-16, which is more than 10^-5: rounded so, none changes its order with another."""
_PIECE = 2**14
"""Detections that are made JSON at once."""


@dataclass(frozen=True)
class Submission:
    """What was written: how many `detections`, on how many `images` that have any."""

    detections: int
    images: int


def of_cell(run: Run, name: str) -> StoredCell:
    """The cell of a run that is called so, as `bench.decide.compare.named` finds it.

    Raises UsageError where there is none, or more than one, and for one that was not evaluated.
    """
    cell_id = named({cell.cell_id: cell.status for cell in run.cells}, name, run.directory)
    cell = next(cell for cell in run.cells if cell.cell_id == cell_id)
    if cell.map50_95 is None:
        raise UsageError(f"{cell_id} of {run.run_id} has no mAP, so that there is nothing to submit: {cell.reason}")
    return cell


def write(run: Run, cell: StoredCell, sink: BinaryIO) -> Submission:
    """Write a cell's detections, image by image and best first, with the ids of the official annotations.

    Raises UsageError for a run whose data had none, StoreError for predictions that cannot be read.
    """
    ids = json.loads(run.fact(CATEGORIES[1]) or "[]")
    if not ids:
        raise UsageError(
            f"{run.run_id} was evaluated on labels without official ids of images and categories; a submission takes a "
            "run of a data file with 'annotations:' (docs/coco.md)"
        )
    columns = ["cell_id", "image_id", "category_id", "score", "x", "y", "w", "h"]
    rows = read_arrow(run.directory, "detections", {"cell_id": [cell.cell_id]}, columns).drop_columns("cell_id")
    separator = b"["
    for batch in rows.to_batches(_PIECE):
        for line in _lines(batch.to_pandas(), ids):
            sink.write(separator + line)
            separator = b",\n"
    sink.write(b"]\n" if len(rows) else b"[]\n")
    return Submission(len(rows), len(rows["image_id"].unique()))


def _lines(rows: pd.DataFrame, ids: list[int]) -> Iterator[bytes]:
    """Each detection as a JSON object."""
    for image, category, score, *box in zip(*(rows[name].tolist() for name in rows), strict=True):
        found = {
            "image_id": image,
            "category_id": ids[category],
            "bbox": box,
            "score": round(score, SCORE_DIGITS),
        }
        yield json.dumps(found, separators=(",", ":")).encode()


def place_for(run: Run, cell: StoredCell) -> Path:
    """Where a submission goes unless something else is asked for: into the run's folder, by the cell's name."""
    return run.directory / f"submission-{cell.cell_id.replace('/', '-')}.json"

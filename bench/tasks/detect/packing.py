"""Detections as rows of a table, one an image, images without any included: exact, as they came from the decoder."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray

from bench.tasks.detect.boxes import Detections

SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int32(), nullable=False),
        pa.field("boxes", pa.list_(pa.float32()), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
        pa.field("categories", pa.list_(pa.int32()), nullable=False),
    ]
)


def packed(found: Mapping[int, Detections]) -> pa.Table:
    """Rows of detections by image id."""
    every = list(found.values())
    return pa.table(
        {
            "image_id": list(found),
            "boxes": [one.boxes.ravel() for one in every],
            "scores": [one.scores for one in every],
            "categories": [one.categories for one in every],
        },
        schema=SCHEMA,
    )


def unpacked(rows: pa.Table) -> dict[int, Detections]:
    """The detections that `packed` was given."""
    images = rows["image_id"].to_pylist()
    boxes, scores, categories = (_arrays(rows[name]) for name in ("boxes", "scores", "categories"))
    return {
        image: Detections(boxes[place].reshape(-1, 4), scores[place], categories[place])
        for place, image in enumerate(images)
    }


def _arrays(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    """The values of each row's list."""
    whole = column.combine_chunks()
    values, offsets = whole.values.to_numpy(), whole.offsets.to_numpy()
    return [values[start:stop] for start, stop in pairwise(offsets)]

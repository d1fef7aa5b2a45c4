"""One YOLO label file: a row per object, `class cx cy w h` or `class x1 y1 x2 y2 ...`, normalised to the image.

The rules are those of `verify_image_label` in Ultralytics 8.4.190.  Where it drops the image with a warning, this
raises: an evaluation that silently loses images reports the mAP of another set.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.reasons import UsageError
from bench.tasks.dataset import Image, Labels

BOX_DTYPE = np.dtype(
    [("image_id", "i4"), ("category", "i4"), ("x", "f8"), ("y", "f8"), ("w", "f8"), ("h", "f8")],
)
TOLERANCE = 0.01
_BOX_COLUMNS = 5
_SHORTEST_POLYGON = 7


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """Objects of one image: `rows` float64 (n, 5), class, centre x, centre y, width, height, the last four in 0..1."""

    rows: NDArray[np.float64]


def read_labels(path: Path, classes: int) -> LabelRows:
    """Read a label file of a set with that many classes.

    A missing or empty file has no objects.  Rows of more than six columns make the file one of polygons, and each
    polygon becomes its bounding box.  Rows that repeat an earlier one are dropped (of polygons, those whose points are
    the same).  Boxes may stick out of the image by 1 %, and boxes without area are kept, as Ultralytics does.

    Raises UsageError naming file, line and remedy: not UTF-8, not numbers, not finite, wrong number of columns, class
    not a whole number from 0 to classes - 1, coordinates not normalised, negative width or height.
    """
    if not path.is_file():
        return LabelRows(np.empty((0, _BOX_COLUMNS)))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the label file {path}: {error}; it must be UTF-8 text") from error
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    polygons = any(len(columns) > _BOX_COLUMNS + 1 for _, columns in lines)
    unique: dict[tuple[float, ...], NDArray[np.float64]] = {}
    for number, columns in lines:
        where = f"{path}, line {number}"
        values = _numbers(columns, where)
        row = _polygon_box(values, where) if polygons else _box(values, where)
        _check(row, classes, where)
        unique.setdefault(tuple(values), row)
    return LabelRows(np.array(list(unique.values()), np.float64).reshape(-1, _BOX_COLUMNS))


def to_boxes(path: Path, classes: int, image: Image) -> Labels:
    """The label file of an image as rows of `BOX_DTYPE`: image id, class index, and left, top, width, height in px.

    Raises UsageError as `read_labels` does.
    """
    labels = read_labels(path, classes)
    table = np.empty(len(labels.rows), BOX_DTYPE)
    category, x, y, w, h = labels.rows.T
    table["image_id"], table["category"] = image.id, category
    table["x"], table["y"] = (x - w / 2) * image.width, (y - h / 2) * image.height
    table["w"], table["h"] = w * image.width, h * image.height
    return Labels(table, labels.rows.tobytes())


def _numbers(columns: list[str], where: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(column) for column in columns])
    except ValueError as error:
        raise UsageError(f"{where}: {error}; a label row holds numbers only") from error
    if not np.isfinite(values).all():
        raise UsageError(f"{where}: {' '.join(columns)!r} holds NaN or infinity; correct or delete the row")
    return values


def _box(values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if len(values) != _BOX_COLUMNS:
        raise UsageError(f"{where}: {len(values)} columns where 'class cx cy w h' has {_BOX_COLUMNS}; correct the row")
    return values


def _polygon_box(values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if len(values) < _SHORTEST_POLYGON or len(values) % 2 == 0:
        raise UsageError(
            f"{where}: {len(values)} columns in a file of polygons, whose rows are 'class x1 y1 x2 y2 x3 y3 ...' with "
            "at least three points; do not mix boxes and polygons in one file"
        )
    points = values[1:].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([values[:1], (low + high) / 2, high - low])


def _check(row: NDArray[np.float64], classes: int, where: str) -> None:
    category, sides, box = row[0], row[3:], row[1:]
    if category % 1 or not 0 <= category < classes:
        raise UsageError(
            f"{where}: class {category:g} is not one of 0 to {classes - 1}; correct the row, or 'names' in the data "
            "file"
        )
    if box.max() > 1 + TOLERANCE or box.min() < -TOLERANCE or sides.min() < 0:
        raise UsageError(
            f"{where}: box {' '.join(f'{value:g}' for value in box)} is out of range; centre, width and height must be "
            "divided by the width and height of the image, so that they lie in 0..1"
        )

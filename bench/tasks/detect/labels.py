"""One YOLO label file: a row per object, normalised to the image, as the data file says that rows are.

`class cx cy w h`, with the keypoints of `kpt_shape` behind it where the data file has that key, or else
`class x1 y1 x2 y2 x3 y3 ...`.  The rules are those of `verify_image_label` in Ultralytics 8.4.190.  Where it drops the
image with a warning, this raises: an evaluation that silently loses images reports the mAP of another set.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.reasons import Collector, UsageError
from bench.tasks.datafile import DataFile
from bench.tasks.dataset import Image, Labels, Reader
from bench.tasks.images import label_text
from bench.tasks.instances import INSTANCE_DTYPE

BOX_DTYPE = INSTANCE_DTYPE
"""A row of the set's boxes: what COCO says of an annotation, with the class index for the category."""
TOLERANCE = 0.01
_BOXES, _KEYPOINTS, _POLYGONS = "boxes", "boxes with keypoints", "polygons"
"""What the rows of a label file are."""
_OFFICIAL = "official annotations"
_BOX_COLUMNS = 5
_SHORTEST_POLYGON = 7
_UPRIGHT = (
    "hold polygons or turned boxes (two columns a corner), each of which counts as its upright bounding box; keypoints "
    "would need 'kpt_shape' in the data file"
)


@dataclass(frozen=True, slots=True, eq=False)
class LabelRows:
    """Objects of one image.

    `rows` float64 (n, 5): class, centre x, centre y, width, height, the last four in 0..1; `found` whether the file is
    there; `polygons` whether the boxes are those around polygons; `repeated` how many rows repeated another.
    """

    rows: NDArray[np.float64]
    found: bool = True
    polygons: bool = False
    repeated: int = 0


def reader(source: DataFile) -> Reader:
    """What reads the label files of a set as boxes.  Raises UsageError where its data file's `kpt_shape` is wrong."""
    return partial(to_boxes, keypoint_columns=keypoint_columns(source))


def keypoint_columns(source: DataFile) -> int:
    """Columns of keypoints behind each box, points times values of `kpt_shape: [17, 3]`; 0 where there is no such key.

    Raises UsageError unless it is a number of points and 2 (x, y) or 3 (x, y, visible) values of each.
    """
    shape = source.content.get("kpt_shape")
    if shape is None:
        return 0
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)  # no bool
    if not whole or shape[0] < 1 or shape[1] not in (2, 3):
        raise UsageError(
            f"{source.where('kpt_shape')}: 'kpt_shape' must be [number of keypoints, 2 or 3], not "
            f"{reprlib.repr(shape)}; correct it, or take it out where labels hold no keypoints"
        )
    return int(shape[0] * shape[1])


def read_labels(path: Path, classes: int, keypoint_columns: int = 0) -> LabelRows:
    """Read a label file of a set with that many classes and that many columns of keypoints behind each box.

    A missing or empty file has no objects.  Where there are keypoints, they are cut off, and a row may lack them.
    Where there are none, a file whose rows have more than six columns is one of polygons, and each polygon becomes its
    bounding box.  Rows that repeat an earlier one are dropped (of polygons, those whose points are the same).  Boxes
    may stick out of the image by 1 %, and boxes without area are kept, as Ultralytics does.

    Raises UsageError for a file that is unreadable or not UTF-8, and Problems naming file, line and remedy of every row
    that is wrong: not numbers, not finite, wrong number of columns, class not a whole number from 0 to classes - 1,
    coordinates not normalised, negative width or height.
    """
    text = label_text(path)
    if text is None:
        return LabelRows(np.empty((0, _BOX_COLUMNS)), found=False)
    problems = Collector()
    lines = [
        (f"{path}, line {number}", line.split())
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]
    if keypoint_columns:
        cut = [(where, problems.of(_without_keypoints, columns, keypoint_columns, where)) for where, columns in lines]
        lines = [(where, columns) for where, columns in cut if columns is not None]
    polygons = _polygons([len(columns) for _, columns in lines])
    unique: dict[tuple[float, ...], NDArray[np.float64]] = {}
    for where, columns in lines:
        read = problems.of(_row, columns, classes, where, polygons=polygons)
        if read is not None:
            unique.setdefault(*read)
    problems.require_none()
    rows = np.array(list(unique.values()), np.float64).reshape(-1, _BOX_COLUMNS)
    return LabelRows(rows, polygons=polygons, repeated=len(lines) - len(unique))


def to_boxes(path: Path, classes: int, image: Image, keypoint_columns: int = 0) -> Labels:
    """The label file of an image as rows of `BOX_DTYPE`: image id, class index, and left, top, width, height in px.

    Labels know no masks and no crowds: an area is width times height.  Raises UsageError as `read_labels` does.
    """
    labels = read_labels(path, classes, keypoint_columns)
    table = np.empty(len(labels.rows), BOX_DTYPE)
    category, x, y, w, h = labels.rows.T
    table["image_id"], table["category"] = image.id, category
    table["x"], table["y"] = (x - w / 2) * image.width, (y - h / 2) * image.height
    table["w"], table["h"] = w * image.width, h * image.height
    table["area"], table["crowd"] = table["w"] * table["h"], False
    kind = _POLYGONS if labels.polygons else _KEYPOINTS if keypoint_columns else _BOXES
    remark = _UPRIGHT if labels.polygons else ""
    return Labels(table, labels.rows.tobytes(), labels.found, kind, remark, labels.repeated)


def of_instances(rows: NDArray[np.void]) -> Labels:
    """Official annotations of an image, whose categories are class indices already."""
    return Labels(rows, rows.tobytes(), kind=_OFFICIAL)


def _polygons(columns: Sequence[int]) -> bool:
    """Whether rows of so many columns are polygons: some are, and no more rows of the file are boxes."""
    polygons = sum(count > _BOX_COLUMNS + 1 for count in columns)
    return polygons >= max(1, columns.count(_BOX_COLUMNS))


def _row(
    columns: list[str], classes: int, where: str, *, polygons: bool
) -> tuple[tuple[float, ...], NDArray[np.float64]]:
    """What a row repeats where it repeats one, and its box.  Raises UsageError."""
    values = _numbers(columns, where)
    row = _polygon_box(values, where) if polygons else _box(values, where)
    _check(row, classes, where)
    return tuple(values.tolist()), row


def _without_keypoints(columns: list[str], keypoints: int, where: str) -> list[str]:
    if len(columns) not in (_BOX_COLUMNS, _BOX_COLUMNS + keypoints):
        raise UsageError(
            f"{where}: {len(columns)} columns where 'kpt_shape' in the data file asks for {_BOX_COLUMNS + keypoints}, "
            f"'class cx cy w h' and {keypoints} of keypoints; correct the row, or 'kpt_shape'"
        )
    return columns[:_BOX_COLUMNS]


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
        mixed = "; do not mix boxes and polygons in one file" if len(values) >= _SHORTEST_POLYGON else ""
        raise UsageError(
            f"{where}: {len(values)} columns where 'class cx cy w h' has {_BOX_COLUMNS}; correct the row{mixed}"
        )
    return values


def _polygon_box(values: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    if len(values) < _SHORTEST_POLYGON or len(values) % 2 == 0:
        raise UsageError(
            f"{where}: {len(values)} columns in a file of polygons, whose rows are 'class x1 y1 x2 y2 x3 y3 ...' with "
            "at least three points; do not mix boxes and polygons in one file; keypoints need 'kpt_shape' in the "
            "data file"
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

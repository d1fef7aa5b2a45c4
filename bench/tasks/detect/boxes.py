"""Raw output in, boxes out: the one decoder and non-maximum suppression that every option goes through.

An option hands back the raw output of the network and nothing else, so a difference in accuracy between two options
comes from their network output and never from a resize, a threshold or a suppression that was written twice.

The arithmetic follows Ultralytics 8.4.190 (`LetterBox`, `non_max_suppression`, `scale_boxes`), whose published mAP is
what a user compares with.  Two things differ on purpose.  Suppression here compares boxes in double precision class by
class, where Ultralytics shifts float32 boxes by 7680 px per class and loses up to 1/32 px doing so.  And detections are
rounded at the end, so that what is stored in Parquet is exactly what was evaluated.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.tasks.letterbox import Letterbox

SCORE_STEP = 2.0**-16
BOX_STEP_PX = 2.0**-5
_FIRST_PREFIX = 1024
_PREFIX_GROWTH = 4


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in one image, best first.

    Attributes: `boxes` float32 (n, 4), x, y, width, height in px of the original image and inside it; `scores` float32
    (n,), 0..1; `categories` int32 (n,), class indices.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    categories: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Raise ValueError when the arrays do not belong together."""
        n = len(self.scores)
        if self.boxes.shape != (n, 4) or self.scores.shape != (n,) or self.categories.shape != (n,):
            raise ValueError(
                f"boxes {self.boxes.shape}, scores {self.scores.shape} and categories {self.categories.shape} "
                "do not describe the same detections; expected (n, 4), (n,) and (n,)"
            )

    def __len__(self) -> int:
        """How many detections there are."""
        return len(self.scores)

    @classmethod
    def empty(cls) -> Detections:
        """No detection at all."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


def decode(
    raw: NDArray[np.float32],
    box: Letterbox,
    *,
    conf: float = 0.001,
    iou: float = 0.7,
    max_det: int = 300,
    multi_label: bool = True,
    max_candidates: int = 30000,
) -> Detections:
    """Turn the raw output of the network for one image into detections.

    `raw` is float32 (4 + classes, anchors): rows 0 to 3 are centre x, centre y, width and height in px of the network
    input, the rest class scores in 0..1.  Each (anchor, class) pair whose score is above `conf` is a candidate, or only
    the best class of each anchor without `multi_label`; the best `max_candidates` take part in greedy suppression,
    which drops a candidate whose IoU with a better one of its class is above `iou`; the best `max_det` are returned,
    clipped to the image.  Equal scores keep the order of anchors, then of classes.  The defaults are those of the
    Ultralytics validator.

    Scores are rounded to 2^-16 and box edges to 1/32 px at the very end, after every decision.
    Raises ValueError on a wrong shape, NaN or infinity, or an option out of range.
    """
    _check_options(conf, iou, max_det, max_candidates)
    if raw.ndim != 2 or raw.shape[0] < 5:
        raise ValueError(f"raw output must have shape (4 + classes, anchors), not {raw.shape}")
    if not np.isfinite(raw).all():
        bad = int(raw.size - np.count_nonzero(np.isfinite(raw)))
        raise ValueError(f"raw output holds NaN or infinity in {bad} of {raw.size} values")

    anchors = np.flatnonzero(raw[4:].max(axis=0) > conf)
    class_scores = np.ascontiguousarray(raw[4:, anchors].T)
    if multi_label:
        rows, columns = np.nonzero(class_scores > conf)
    else:
        rows, columns = np.arange(len(anchors)), class_scores.argmax(axis=1)
    scores = class_scores[rows, columns]
    order = np.argsort(-scores, kind="stable")[:max_candidates]
    scores, categories = scores[order], np.asarray(columns[order], np.int32)
    centres = raw[:4, anchors[rows[order]]].T.astype(np.float64)
    # A quantised box head can put a side slightly below zero; such a box has no area and is kept as a line.
    sides = np.maximum(centres[:, 2:], 0.0)
    corners = centres[:, :2] - sides / 2

    keep = _suppress(np.hstack([corners, sides]), scores, categories, iou=iou, max_det=max_det)
    low, high = corners[keep], corners[keep] + sides[keep]
    offset, gain, limit = (box.left, box.top), box.gain, (box.width, box.height)
    edges = [np.clip((edge - offset) / gain, 0.0, limit) for edge in (low, high)]
    low, high = (np.round(edge / BOX_STEP_PX) * BOX_STEP_PX for edge in edges)
    return Detections(
        boxes=np.hstack([low, high - low]).astype(np.float32),
        scores=(np.round(scores[keep] / SCORE_STEP) * SCORE_STEP).astype(np.float32),
        categories=categories[keep],
    )


def _check_options(conf: float, iou: float, max_det: int, max_candidates: int) -> None:
    if not (0.0 <= conf <= 1.0 and 0.0 <= iou <= 1.0):
        raise ValueError(f"conf and iou must lie in 0..1, not {conf} and {iou}")
    if max_det < 1 or max_candidates < 1:
        raise ValueError(f"max_det and max_candidates must be at least 1, not {max_det} and {max_candidates}")


def _suppress(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float32],
    categories: NDArray[np.int32],
    *,
    iou: float,
    max_det: int,
) -> NDArray[np.intp]:
    """Indices of the first `max_det` boxes that greedy class-aware suppression keeps, of boxes sorted best first.

    Greedy suppression decides on a box from better boxes alone, so the boxes kept from a prefix are a prefix of the
    boxes kept from all.  Working on growing prefixes until enough are kept therefore gives the same result, and spares
    the quadratic cost of thousands of candidates nobody will see.  OpenCV takes any two boxes without area for equal.
    """
    if not len(boxes):
        return np.empty(0, np.intp)
    # OpenCV separates classes by shifting boxes by the largest coordinate, which holds only without negative ones.
    shifted = boxes.copy()
    shifted[:, :2] -= boxes[:, :2].min(axis=0)
    length = max(_FIRST_PREFIX, max_det)
    while True:
        prefix = slice(0, length)
        # Its annotations know sequences of boxes only; it takes arrays as well.
        kept = cv2.dnn.NMSBoxesBatched(shifted[prefix], scores[prefix], categories[prefix], 0.0, iou)  # type: ignore[arg-type]
        if len(kept) >= max_det or length >= len(boxes):
            return np.asarray(kept, np.intp).reshape(-1)[:max_det]
        length *= _PREFIX_GROWTH


def draw(
    image: NDArray[np.uint8], detections: Detections, names: Mapping[int, str], min_score: float = 0.25
) -> NDArray[np.uint8]:
    """A copy of `image` (uint8 (H, W, 3), BGR) with the boxes, names and scores of detections from `min_score` up.

    A class keeps its colour between images.  Weak detections are drawn first, so the strong ones stay readable.
    """
    canvas = image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 400))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, max(0.35, max(image.shape[:2]) / 1400)
    for index in np.flatnonzero(detections.scores >= min_score)[::-1]:
        category = int(detections.categories[index])
        x, y, w, h = (float(value) for value in detections.boxes[index])
        low, high = (round(x), round(y)), (round(x + w), round(y + h))
        # Steps of the golden ratio around the hue circle keep neighbouring class numbers far apart in colour.
        rgb = colorsys.hsv_to_rgb(category * 0.618034 % 1.0, 0.75, 0.9)
        colour = tuple(round(255 * channel) for channel in reversed(rgb))
        cv2.rectangle(canvas, low, high, colour, thickness)
        label = f"{names.get(category, str(category))} {detections.scores[index]:.2f}"
        (text_width, text_height), baseline = cv2.getTextSize(label, font, size, 1)
        bottom = max(low[1], text_height + baseline)
        cv2.rectangle(canvas, (low[0], bottom - text_height - baseline), (low[0] + text_width, bottom), colour, -1)
        cv2.putText(canvas, label, (low[0], bottom - baseline), font, size, (0, 0, 0), 1, cv2.LINE_AA)
    return canvas

"""Calibration images for the exporters that quantise by themselves: read, letterboxed and put into batches.

The letterbox has the geometry of the core's, which guests cannot import; a test keeps the two from drifting apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

PADDING_VALUE = 114


class ExportRefused(ValueError):
    """The request cannot be carried out; the message says what to change."""


def batches(request: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """The calibration images of an export request as float32 (B, S, S, 3), RGB 0..1, letterboxed.

    A last batch that is not full repeats its last image.  Raises ExportRefused when there is no image or one cannot be
    read: a quantisation must not silently rest on fewer images than it says.
    """
    paths = [Path(name) for name in request["calibration"]]
    if not paths:
        raise ExportRefused("int8 needs calibration images; give the data file a train split that has some.")
    imgsz, batch = int(request["imgsz"]), int(request["batch"])
    filled = [*paths, *[paths[-1]] * (-len(paths) % batch)]
    for start in range(0, len(filled), batch):
        yield np.concatenate([letterbox(_read(path), imgsz) for path in filled[start : start + batch]])


def letterbox(image: np.ndarray, imgsz: int) -> np.ndarray:
    """Fit uint8 (H, W, 3) BGR into float32 (1, imgsz, imgsz, 3) RGB 0..1: scaled bilinearly, centred on grey 114."""
    height, width = image.shape[:2]
    scale = min(imgsz / height, imgsz / width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    left, top = (round((imgsz - side) / 2 - 0.1) for side in size)
    if size != (width, height):
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    canvas = np.full((1, imgsz, imgsz, 3), PADDING_VALUE, np.uint8)
    canvas[0, top : top + size[1], left : left + size[0]] = image[..., ::-1]
    return np.divide(canvas, np.float32(255), dtype=np.float32)


def _read(path: Path) -> np.ndarray:
    """An image as uint8 (H, W, 3) BGR."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image: np.ndarray | None = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ExportRefused(f"{path.name}: OpenCV cannot decode this calibration image; convert it to PNG.")
    return image

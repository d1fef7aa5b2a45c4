"""Calibration images for the exporters that quantise by themselves: read, letterboxed and put into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..letterbox import fit
from ..refusals import ExportRefused


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
        canvases = [fit(_read(path), imgsz)[0] for path in filled[start : start + batch]]
        yield np.divide(np.stack(canvases), np.float32(255), dtype=np.float32)


def _read(path: Path) -> np.ndarray:
    """An image as uint8 (H, W, 3) BGR."""
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image: np.ndarray | None = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ExportRefused(
            f"{path}: OpenCV cannot decode this calibration image; replace it or take it out of the train split."
        )
    return image

"""An image fitted into the square network input: the one letterbox of the bench, for both sides of the wall.

The core prepares every evaluated image with it (`bench/tasks/letterbox.py`), exporters the images that calibrate.
Imports numpy and OpenCV only.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING_VALUE = 114


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How an image was fitted into the square network input.

    Attributes: `scale` network px per image px before the sides were rounded to whole pixels; `left`, `top` padding in
    network px; `width`, `height` of the original image in px.
    """

    scale: float
    left: int
    top: int
    width: int
    height: int

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) of the image inside the network input, px; at least 1 so that thin images stay valid."""
        return max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1)

    @property
    def gain(self) -> tuple[float, float]:
        """(x, y) network px per image px as really applied: rounding the sides makes the two axes differ slightly."""
        width, height = self.resized
        return width / self.width, height / self.height


def fit(image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """Fit `image`, uint8 (H, W, 3) in BGR order, into a square with the side `imgsz` in px.

    It is scaled up or down with cv2.INTER_LINEAR, centred, and padded with grey 114.  Sides are round(side * scale),
    and an odd padding puts the smaller half on the left and top (round(padding / 2 - 0.1)), as `LetterBox(auto=False)`
    of Ultralytics 8.4.190 does.

    Returns uint8 (imgsz, imgsz, 3), RGB, contiguous, and the geometry that undoes it.
    """
    height, width = image.shape[:2]
    scale = min(imgsz / height, imgsz / width)
    new_width, new_height = Letterbox(scale, 0, 0, width, height).resized
    left, top = (round((imgsz - side) / 2 - 0.1) for side in (new_width, new_height))
    if (new_width, new_height) != (width, height):
        image = np.asarray(cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_LINEAR), np.uint8)
    canvas = np.full((imgsz, imgsz, 3), PADDING_VALUE, np.uint8)
    canvas[top : top + new_height, left : left + new_width] = image[..., ::-1]
    return canvas, Letterbox(scale, left, top, width, height)

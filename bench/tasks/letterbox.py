"""Pixels as the network takes them: the letterbox of `bench/guest/letterbox.py`, as a tensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.guest.letterbox import PADDING_VALUE, Letterbox, fit

__all__ = ["PADDING_VALUE", "Letterbox", "fitted", "letterbox", "tensor"]


def letterbox(image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.float32], Letterbox]:
    """Fit an image, uint8 (H, W, 3) in BGR order, into the square network input with the side `imgsz` in px.

    Returns float32 (1, 3, imgsz, imgsz), RGB, 0..1, contiguous, and the geometry that decoding needs to undo it.
    Raises ValueError as `fitted` does.
    """
    pixels, box = fitted(image, imgsz)
    return tensor(pixels), box


def fitted(image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.uint8], Letterbox]:
    """The same as pixels, uint8 (imgsz, imgsz, 3), RGB.

    Raises ValueError on an array of another type or shape, or an `imgsz` below 1.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be uint8 of shape (H, W, 3), not {image.dtype} of shape {image.shape}")
    if imgsz < 1:
        raise ValueError(f"imgsz must be at least 1 px, not {imgsz}")
    return fit(image, imgsz)


def tensor(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels (S, S, 3) as a network takes them: float32 (1, 3, S, S), 0..1, contiguous."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))[np.newaxis]
    return np.divide(planes, np.float32(255.0), dtype=np.float32)

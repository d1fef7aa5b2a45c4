"""Integer raster primitives of the demo renderer: random draws, polygon filling, smooth noise, blur.

Everything is integer arithmetic on the raw 64-bit stream of PCG64, whose stream NumPy guarantees (NEP 19) where it does
not guarantee the stream of `Generator` methods.  No image library draws a pixel, so the pixels depend neither on its
version nor on the processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.uint8]
T = TypeVar("T")

SUPERSAMPLE = 4  # samples per pixel along each axis
SUBPIXEL = 256  # units of a vertex coordinate per sample
TURN = 1024  # angle steps in a full turn
TRIG_ONE = 1 << 14  # fixed-point one of SIN and COS

# Rounding an irrational sine to 14 bits gives the same integer under every math library; only the table uses floats.
SIN: IntArray = np.array([round(math.sin(2 * math.pi * k / TURN) * TRIG_ONE) for k in range(TURN)], dtype=np.int64)
COS: IntArray = np.roll(SIN, -TURN // 4)


class Draws:
    """Random integers from one seed, the same on every machine and NumPy version."""

    def __init__(self, seed: int) -> None:
        """Start the stream of `seed`, an integer from 0."""
        self._bits = np.random.PCG64(seed)

    def below(self, stop: int) -> int:
        """Integer in [0, stop); the modulo's bias is below stop / 2^64."""
        return int(self._bits.random_raw()) % stop

    def between(self, low: int, high: int) -> int:
        """Integer in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 draws."""
        return self.below(100) < percent

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`, uniformly."""
        return items[self.below(len(items))]

    def octets(self, shape: tuple[int, ...]) -> IntArray:
        """Uniform integers 0..255 of the given shape."""
        count = math.prod(shape)
        words = np.asarray(self._bits.random_raw((count + 7) // 8), dtype="<u8")
        return words.view(np.uint8)[:count].reshape(shape).astype(np.int64)


def fill_polygon(contours: Sequence[IntArray], height: int, width: int) -> Mask:
    """Fill closed contours by the even-odd rule.

    `contours` hold (N, 2) vertices as x, y in 1/SUBPIXEL of a sample; a sample is inside when its centre is.  Returns a
    (height, width) mask of 0 and 1.  Each edge toggles, in each column whose centre it spans, the first sample below
    it; a running exclusive-or down the columns then fills the inside.
    """
    starts = np.concatenate(contours)
    ends = np.concatenate([np.roll(contour, -1, axis=0) for contour in contours])
    rightwards = starts[:, 0] <= ends[:, 0]
    left = np.where(rightwards[:, None], starts, ends)
    right = np.where(rightwards[:, None], ends, starts)
    half = SUBPIXEL // 2
    first = np.clip((left[:, 0] + half - 1) // SUBPIXEL, 0, width)  # first column with its centre at or right of `left`
    stop = np.clip((right[:, 0] + half - 1) // SUBPIXEL, 0, width)
    spans = stop - first
    edge = np.repeat(np.arange(len(spans)), spans)
    column = np.arange(len(edge)) - np.repeat(np.cumsum(spans) - spans, spans) + first[edge]
    run = right[edge, 0] - left[edge, 0]
    rise = right[edge, 1] - left[edge, 1]
    crossing = left[edge, 1] + rise * (column * SUBPIXEL + half - left[edge, 0]) // run
    row = np.clip((crossing + half - 1) // SUBPIXEL, 0, height)
    toggles = np.zeros((height + 1, width), dtype=np.uint8)
    np.bitwise_xor.at(toggles.reshape(-1), row * width + column, np.uint8(1))
    np.bitwise_xor.accumulate(toggles, axis=0, out=toggles)
    return toggles[:height]


def coverage(mask: Mask) -> IntArray:
    """Samples set in each pixel, 0..16, of a mask whose sides are multiples of SUPERSAMPLE."""
    rows = sum((mask[k::SUPERSAMPLE] for k in range(1, SUPERSAMPLE)), start=mask[0::SUPERSAMPLE])
    both = sum((rows[:, k::SUPERSAMPLE] for k in range(1, SUPERSAMPLE)), start=rows[:, 0::SUPERSAMPLE])
    return both.astype(np.int64)


def value_noise(draws: Draws, height: int, width: int, cell: int) -> IntArray:
    """Smooth (height, width) noise, -128..127: random lattice values every `cell` px, bilinear in between."""
    lattice = draws.octets((height // cell + 2, width // cell + 2)) - 128
    y, x = np.arange(height), np.arange(width)
    row, fy = y // cell, (y % cell * 256 // cell)[:, None]
    col, fx = x // cell, (x % cell * 256 // cell)[None, :]
    across: IntArray = lattice[:, col] * (256 - fx) + lattice[:, col + 1] * fx
    blend: IntArray = across[row] * (256 - fy) + across[row + 1] * fy
    return blend >> 16


def gradient(corners: Sequence[IntArray], height: int, width: int) -> IntArray:
    """(height, width, C) bilinear blend of four corner colours: top left, top right, bottom left, bottom right."""
    fx = (np.arange(width) * 256 // width)[:, None]
    top: IntArray = corners[0] * (256 - fx) + corners[1] * fx
    bottom: IntArray = corners[2] * (256 - fx) + corners[3] * fx
    fy = (np.arange(height) * 256 // height)[:, None, None]
    blend: IntArray = top[None] * (256 - fy) + bottom[None] * fy
    return blend >> 16


def binomial_blur(image: IntArray, passes: int) -> IntArray:
    """Blur an (H, W, C) image with the kernel 1 2 1 over 4 along both axes, `passes` times, edges repeated."""
    for _ in range(passes):
        padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
        image = (padded[:-2] + 2 * image + padded[2:] + 2) >> 2
        padded = np.pad(image, ((0, 0), (1, 1), (0, 0)), mode="edge")
        image = (padded[:, :-2] + 2 * image + padded[:, 2:] + 2) >> 2
    return image

"""Deterministic renderer of the demo detection set: hardware-shop objects on cluttered, textured grounds.

`render(seed)` gives the same pixels and boxes on every machine (see `bench.demo.raster`).  A box is the *visible* box:
the tight extent of the object's samples that no later object covers and that lie inside the image, in quarter pixels.
An object keeps at least MIN_VISIBLE percent of its area visible, or the thing that would hide it is not placed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.demo.raster import (
    COS,
    SIN,
    SUBPIXEL,
    SUPERSAMPLE,
    TRIG_ONE,
    TURN,
    Draws,
    IntArray,
    Mask,
    binomial_blur,
    coverage,
    fill_polygon,
    gradient,
    value_noise,
)
from bench.demo.shapes import CLASSES, Shape, clutter

GENERATOR_VERSION = 1
NAMES: tuple[str, ...] = tuple(CLASSES)
MIN_VISIBLE = 45  # percent of an object's area
_TRIES = 6  # placements tried before an object is given up
# (share in percent, shortest, longest) of the longer side in 1/320 of the image's nominal side
_SIZES = ((8, 12, 20), (20, 20, 38), (38, 38, 100), (34, 100, 215))
_ASPECTS = ((320, 320), (320, 240), (240, 320), (416, 320))  # width, height at size 320


@dataclass(frozen=True, slots=True)
class Box:
    """Visible box of an object: class index into NAMES, left, top, width and height in pixels."""

    category: int
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class _Layer:
    """A shape placed on the canvas: where its window lies in pixels, and the samples of each part and of the whole."""

    top: int
    left: int
    parts: list[Mask]
    whole: Mask

    def window(self, scale: int = 1) -> tuple[slice, slice]:
        """Rows and columns of the window, in pixels or (scale SUPERSAMPLE) in samples."""
        rows, cols = self.whole.shape[0] // SUPERSAMPLE, self.whole.shape[1] // SUPERSAMPLE
        top, left = self.top * scale, self.left * scale
        return slice(top, top + rows * scale), slice(left, left + cols * scale)


class _Scene:
    """Canvas (H, W, 3) of integer BGR and, per sample, the number of the thing on top (0 is the ground)."""

    def __init__(self, draws: Draws, height: int, width: int) -> None:
        self.draws = draws
        self.height, self.width = height, width
        self.canvas = _ground(draws, height, width)
        self.grain = value_noise(draws, height, width, 3)
        self.owner = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE), dtype=np.uint8)
        self.placed: list[tuple[int, int, _Layer]] = []  # category (-1 clutter), area in samples, layer

    def add(self, shape: Shape, category: int, length: int) -> bool:
        """Place `shape`, its longer side about `length` px, over what is there; False if no place was found."""
        for _ in range(_TRIES):
            placed = self._place(shape, length)
            if placed is None:
                continue
            layer, area = placed
            if self._hides_too_much(layer):
                continue
            self.placed.append((category, area, layer))
            region = self.owner[layer.window(SUPERSAMPLE)]
            np.copyto(region, np.uint8(len(self.placed)), where=layer.whole.astype(np.bool_))
            self._paint(shape, layer)
            return True
        return False

    def boxes(self) -> list[Box]:
        """Visible boxes of all objects that have a class, in order of placement."""
        found: list[Box] = []
        for number, (category, _, layer) in enumerate(self.placed, start=1):
            if category < 0:
                continue
            rows, cols = layer.window(SUPERSAMPLE)
            visible = self.owner[rows, cols] == number
            y, x = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
            found.append(
                Box(
                    category,
                    (cols.start + int(x[0])) / SUPERSAMPLE,
                    (rows.start + int(y[0])) / SUPERSAMPLE,
                    (int(x[-1]) - int(x[0]) + 1) / SUPERSAMPLE,
                    (int(y[-1]) - int(y[0]) + 1) / SUPERSAMPLE,
                )
            )
        return found

    def _place(self, shape: Shape, length: int) -> tuple[_Layer, int] | None:
        """Turn, foreshorten and move `shape`; None where the image's edge would cut off too much of it."""
        d = self.draws
        matrix = _pose(d, length)
        offset = np.array([d.below(self.width * SUPERSAMPLE), d.below(self.height * SUPERSAMPLE)]) * SUBPIXEL
        moved = [[contour @ matrix // TRIG_ONE + offset for contour in part.contours] for part in shape]
        points = np.concatenate([contour for part in moved for contour in part])
        pixel = SUBPIXEL * SUPERSAMPLE
        low, high = points.min(axis=0) // pixel, points.max(axis=0) // pixel + 1
        cols, rows = (high - low).tolist()
        origin = low * pixel
        masks = [
            fill_polygon([contour - origin for contour in part], rows * SUPERSAMPLE, cols * SUPERSAMPLE)
            for part in moved
        ]
        whole = np.bitwise_or.reduce(masks)
        area = int(whole.sum())
        left, top = low.tolist()
        y0, x0 = max(-top, 0), max(-left, 0)
        y1, x1 = min(self.height - top, rows), min(self.width - left, cols)
        inside = slice(y0 * SUPERSAMPLE, y1 * SUPERSAMPLE), slice(x0 * SUPERSAMPLE, x1 * SUPERSAMPLE)
        layer = _Layer(top + y0, left + x0, [mask[inside] for mask in masks], whole[inside])
        if int(layer.whole.sum()) * 100 < area * 60 or min(layer.whole.shape) < 4 * SUPERSAMPLE:
            return None
        return layer, area

    def _hides_too_much(self, layer: _Layer) -> bool:
        """Whether `layer` would leave an earlier object of a class with under MIN_VISIBLE percent of its area."""
        region = self.owner[layer.window(SUPERSAMPLE)]
        hidden = np.bincount(region[layer.whole.astype(np.bool_)], minlength=len(self.placed) + 1)
        for number in np.flatnonzero(hidden[1:]).tolist():
            category, area, earlier = self.placed[number]
            if category < 0:
                continue
            visible = int(np.count_nonzero(self.owner[earlier.window(SUPERSAMPLE)] == number + 1))
            if (visible - int(hidden[number + 1])) * 100 < area * MIN_VISIBLE:
                return True
        return False

    def _paint(self, shape: Shape, layer: _Layer) -> None:
        """Blend the parts over the canvas, with a shadow, a shading across the object and a grain."""
        d = self.draws
        rows, cols = layer.window()
        region = self.canvas[rows, cols]
        height, width = region.shape[:2]
        under = region.mean(axis=(0, 1)).astype(np.int64) if d.chance(14) else None
        inks = [_ink(d, under), _ink(d, under)]
        if d.chance(50):
            self._shade(layer, d.between(1, 2 + height // 24), d.between(1, 2 + width // 24), d.between(2, 8))
        ends = [np.array([d.between(-35, 35)]) for _ in range(4)]
        relief = gradient(ends, height, width) + (self.grain[rows, cols, None] * d.between(0, 36) >> 8)
        for part, mask in zip(shape, layer.parts, strict=True):
            cover = coverage(mask)[:, :, None]
            colour = np.clip(inks[part.ink] + part.tone + relief, 0, 255)
            region[:] = (region * (16 - cover) + colour * cover + 8) >> 4

    def _shade(self, layer: _Layer, down: int, right: int, strength: int) -> None:
        """Darken the canvas under the shape, shifted by (down, right) px; strength in 1/16."""
        cover = coverage(layer.whole)
        target = self.canvas[layer.top + down :, layer.left + right :][: cover.shape[0], : cover.shape[1]]
        cover = cover[: target.shape[0], : target.shape[1], None]
        target[:] = target * (256 - cover * strength) >> 8


def _pose(d: Draws, length: int) -> IntArray:
    """2x2 matrix, in TRIG_ONE, from shape units to subpixels: turn, foreshorten along a random axis, mirror, turn."""
    first, second = d.below(TURN), d.below(TURN)
    scale = length * SUPERSAMPLE * SUBPIXEL  # of 1024 units
    squeeze = np.array([[scale, 0], [0, scale * d.between(70, 100) // 100 * d.pick((1, -1))]])
    matrix: IntArray = _turn(first) @ squeeze @ _turn(second) // (TRIG_ONE * 1024)
    return matrix


def _turn(angle: int) -> IntArray:
    return np.array([[COS[angle], SIN[angle]], [-SIN[angle], COS[angle]]])


def _ink(d: Draws, under: IntArray | None) -> IntArray:
    """BGR colour: near the ground's mean where `under` is given (low contrast), else metal grey or any colour."""
    if under is not None:
        near: IntArray = under + d.pick((-1, 1)) * d.between(16, 34) + d.octets((3,)) * 12 // 255
        return np.clip(near, 0, 255)
    if d.chance(45):
        return d.between(50, 225) + d.octets((3,)) * 24 // 255 - 12
    return 20 + d.octets((3,)) * 215 // 255


def _ground(d: Draws, height: int, width: int) -> IntArray:
    """Textured (height, width, 3) ground: colour gradient, two octaves of noise and often a pattern."""
    base = d.between(30, 220)
    spread = d.between(10, 90)
    corners = [np.clip(base + (d.octets((3,)) - 128) * spread // 128, 0, 255) for _ in range(4)]
    image = gradient(corners, height, width)
    for cell in (d.between(20, 70), d.between(3, 12)):
        image = image + (value_noise(d, height, width, cell) * d.between(4, 60) >> 8)[:, :, None]
    pattern = d.below(5)
    if pattern:
        angle = d.below(TURN)
        wobble = value_noise(d, height, width, 40) * d.between(0, 8)
        x, y = np.arange(width)[None, :], np.arange(height)[:, None]
        along = (x * COS[angle] + y * SIN[angle]) // (TRIG_ONE // 64) + wobble
        across = (y * COS[angle] - x * SIN[angle]) // (TRIG_ONE // 64)
        period = d.between(6, 48) * 64
        contrast = d.between(6, 40)
        if pattern == 1:  # stripes
            value = np.where(along % period * 3 < period, -contrast, contrast // 2)
        elif pattern == 2:  # checks
            value = np.where((along // period + across // period) % 2 == 0, -contrast, contrast)
        elif pattern == 3:  # planks: thin dark seams
            value = np.where(along % (period * 2) < 96, -2 * contrast, 0)
        else:  # soft waves
            value = SIN[along * TURN // period % TURN] * contrast // TRIG_ONE
        image = image + value[:, :, None]
    return np.clip(image, 0, 255)


def _camera(d: Draws, image: IntArray) -> IntArray:
    """Blur, loss of contrast and sensor noise over the finished scene."""
    image = binomial_blur(image, d.pick((0, 0, 0, 1, 1, 2)))
    if d.chance(35):
        image = ((image - 128) * d.between(90, 200) >> 8) + 128 + d.between(-40, 40)
    amplitude = d.pick((0, 4, 8, 12, 20, 36))
    noise = (d.octets(image.shape) + d.octets(image.shape) - 255) * amplitude >> 8
    return np.clip(image + noise, 0, 255)


def render(seed: int, size: int = 320) -> tuple[npt.NDArray[np.uint8], list[Box]]:
    """Image `seed` of the demo set: uint8 BGR (H, W, 3) and the visible boxes of its objects.

    `size` is the nominal side in px: images are 1:1, 4:3, 3:4 or 1.3:1 of it, drawn per seed.  Raises ValueError for a
    negative seed or a size under 64.
    """
    if seed < 0 or size < 64:
        raise ValueError(f"render needs seed >= 0 and size >= 64, got seed {seed} and size {size}")
    d = Draws(seed)
    width, height = (side * size // 320 for side in d.pick(_ASPECTS))
    scene = _Scene(d, height, width)
    for _ in range(d.between(4, 11)):
        draw = d.below(100)
        low, high = 10, 20
        for share, low, high in _SIZES:  # noqa: B007
            draw -= share
            if draw < 0:
                break
        length = d.between(low, high) * size // 320
        if d.chance(22):
            scene.add(clutter(d), -1, length)
        else:
            category = d.below(len(NAMES))
            shape = CLASSES[NAMES[category]](d)
            scene.add(shape, category, length)
    return _camera(d, scene.canvas).astype(np.uint8), scene.boxes()

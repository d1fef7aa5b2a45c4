"""The demo's object classes and the clutter, as polygons composed of parts.

A shape is a list of parts in a frame where the object is about 1024 units long, centred on (0, 0), its long axis on x.
Proportions are drawn anew for every instance.  Several classes share parts on purpose (a shaft, a ring, a thread), so
that a detector has to look at how parts are put together; colours are drawn the same way for all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.demo.raster import COS, SIN, TRIG_ONE, TURN, Draws, IntArray


@dataclass(frozen=True)
class Part:
    """One filled area: closed contours combined by the even-odd rule, a brightness offset and which colour it takes."""

    contours: tuple[IntArray, ...]
    tone: int = 0
    ink: int = 0


Shape = list[Part]


def _poly(*points: tuple[int, int]) -> IntArray:
    return np.array(points, dtype=np.int64)


def _rect(x0: int, y0: int, x1: int, y1: int) -> IntArray:
    return _poly((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _regular(cx: int, cy: int, radius: int, corners: int, phase: int = 0) -> IntArray:
    angle = (np.arange(corners) * TURN // corners + phase) % TURN
    return np.stack([cx + radius * COS[angle] // TRIG_ONE, cy + radius * SIN[angle] // TRIG_ONE], axis=1)


def _disc(cx: int, cy: int, radius: int) -> IntArray:
    return _regular(cx, cy, radius, 40)


def _threads(x0: int, x1: int, half: int, pitch: int, tone: int) -> list[Part]:
    """Slanted bands across a shaft from x0 to x1."""
    bands = tuple(
        _poly((x, -half), (x + pitch * 2 // 5, -half), (x + pitch * 4 // 5, half), (x + pitch * 2 // 5, half))
        for x in range(x0, x1 - pitch, pitch)
    )
    return [Part(bands, tone)]


def _washer(d: Draws) -> Shape:
    inner = d.between(170, 330)
    middle = (500 + inner) // 2
    ring = Part((_disc(0, 0, 500), _disc(0, 0, inner)))
    return [ring, Part((_disc(0, 0, middle + 40), _disc(0, 0, middle - 30)), d.between(-30, 35))]


def _nut(d: Draws) -> Shape:
    inner = d.between(190, 290)
    body = Part((_regular(0, 0, 510, 6), _disc(0, 0, inner)))
    return [body, Part((_disc(0, 0, 425), _disc(0, 0, inner)), d.between(12, 40))]


def _gear(d: Draws) -> Shape:
    teeth = d.between(8, 14)
    root = d.between(370, 420)
    rim: list[tuple[int, int]] = []
    for k in range(4 * teeth):
        angle = k * TURN // (4 * teeth)
        radius = 510 if k % 4 in (0, 1) else root
        rim.append((radius * int(COS[angle]) // TRIG_ONE, radius * int(SIN[angle]) // TRIG_ONE))
    hole = d.between(90, 210)
    parts = [Part((_poly(*rim), _disc(0, 0, hole)))]
    if d.chance(50):
        parts.append(Part((_disc(0, 0, hole + 90), _disc(0, 0, hole)), d.between(-40, 40)))
    return parts


def _bolt(d: Draws) -> Shape:
    head = d.between(190, 250)
    shaft = d.between(85, 130)
    neck = d.between(-350, -300)
    parts = [
        Part((_rect(neck, -shaft, 500, shaft),)),
        Part((_rect(-512, -head, neck, head),), d.between(-15, 15)),
        Part((_rect(-512, -head // 2, neck, head // 2),), d.between(18, 40)),
    ]
    return parts + _threads(d.between(-200, 150), 500, shaft, d.between(56, 84), d.between(-70, -35))


def _screw(d: Draws) -> Shape:
    head = d.between(190, 260)
    shaft = d.between(70, 105)
    tip = d.between(200, 330)
    parts = [
        Part((_poly((-390, -shaft), (tip, -shaft), (512, 0), (tip, shaft), (-390, shaft)),)),
        Part((_poly((-512, -head), (-470, -head), (-370, -shaft), (-370, shaft), (-470, head), (-512, head)),), 15),
        Part((_rect(-512, -45, -455, 45),), -80),
    ]
    return parts + _threads(d.between(-340, -150), tip, shaft + 30, d.between(80, 120), d.between(-55, 45))


def _key(d: Draws) -> Shape:
    corners = d.pick((6, 8, 40))
    radius = d.between(170, 215)
    stem = d.between(36, 55)
    parts = [
        Part((_rect(-200, -stem, 512, stem),)),
        Part((_regular(-512 + radius, 0, radius, corners), _disc(-540 + radius, 0, radius * d.between(35, 60) // 100))),
    ]
    x = d.between(200, 270)
    while x < 470:
        width = d.between(36, 70)
        parts.append(Part((_rect(x, 0, min(x + width, 512), stem + d.between(50, 150)),), d.between(-10, 10)))
        x += width + d.between(25, 50)
    return parts


def _jaw(cx: int, radius: int, side: int, half_mouth: int, depth: int) -> IntArray:
    """Open end of a wrench: a disc with a mouth towards `side` (+1 right, -1 left)."""
    angle = np.arange(90, TURN - 89, (TURN - 180) // 28)
    x = radius * COS[angle] // TRIG_ONE
    y = radius * SIN[angle] // TRIG_ONE
    rim = np.stack([cx + side * x, y], axis=1)
    bottom = cx + side * (radius - depth)
    mouth = _poly((bottom, -half_mouth), (bottom, half_mouth))
    return np.concatenate([rim, mouth])


def _wrench(d: Draws) -> Shape:
    radius = d.between(130, 180)
    parts = [Part((_rect(-340, -radius * 2 // 5, 340, radius * 2 // 5),))]
    mouth = radius * d.between(40, 55) // 100
    parts.append(Part((_jaw(-512 + radius, radius, -1, mouth, radius * 11 // 10),), d.between(-5, 10)))
    if d.chance(50):
        ring = d.between(110, 150)
        parts.append(Part((_disc(512 - ring, 0, ring), _regular(512 - ring, 0, ring * 6 // 10, d.pick((6, 12)))), 8))
    else:
        other = d.between(110, 150)
        parts.append(Part((_jaw(512 - other, other, 1, other // 2, other * 11 // 10),), 8))
    if d.chance(50):
        parts.append(Part((_rect(-230, -radius // 5, 230, radius // 5),), d.pick((-30, 25))))
    return parts


def _hammer(d: Draws) -> Shape:
    handle = d.between(42, 65)
    left, right = d.between(250, 300), d.between(430, 470)
    face, peen = d.between(220, 300), d.between(240, 360)
    middle = (left + right) // 2
    shaft = _poly((-512, -handle - 15), (-150, -handle), (right, -handle), (right, handle), (-512, handle + 15))
    return [
        Part((shaft,), 0, 1),
        Part((_rect(left, -150, right, 150),)),
        Part((_rect(left - 30, -face, right + 30, -140),), d.between(5, 30)),
        Part((_poly((left, 140), (right, 140), (middle + 25, peen), (middle - 25, peen)),), d.between(-30, -5)),
    ]


def _screwdriver(d: Draws) -> Shape:
    grip = d.between(105, 155)
    end = d.between(-130, 0)
    blade = d.between(28, 45)
    tip = (
        _poly((440, -blade), (470, -blade * 2), (512, -blade * 2), (512, blade * 2), (470, blade * 2), (440, blade))
        if d.chance(50)
        else _poly((430, -blade), (512, -8), (512, 8), (430, blade))
    )
    outline = _poly((-512, -grip + 40), (-470, -grip), (end - 40, -grip), (end, -60), (end, 60), (end - 40, grip))
    outline = np.concatenate([outline, _poly((-470, grip), (-512, grip - 40))])
    ridges = tuple(_rect(-450, y, end - 70, y + grip // 4) for y in (-grip * 3 // 4, -grip // 8, grip // 2))
    return [
        Part((_rect(end - 20, -blade, 440, blade),)),
        Part((tip,), d.between(-25, 20)),
        Part((outline,), 0, 1),
        Part(ridges, d.pick((-45, -30, 30)), 1),
    ]


def _battery(d: Draws) -> Shape:
    half = d.between(130, 215)
    seam = d.between(120, 320)
    return [
        Part((_rect(440, -half // 3, 512, half // 3),), 25),
        Part((_rect(-500, -half, 460, half),), 0, 1),
        Part((_rect(seam, -half, 460, half),)),
        Part((_rect(-500, -half, -450, half),), -25),
        Part((_rect(-500, -half * 2 // 3, 460, -half // 3),), 30, 1),
    ]


CLASSES: dict[str, Callable[[Draws], Shape]] = {
    "washer": _washer,
    "nut": _nut,
    "gear": _gear,
    "bolt": _bolt,
    "screw": _screw,
    "key": _key,
    "wrench": _wrench,
    "hammer": _hammer,
    "screwdriver": _screwdriver,
    "battery": _battery,
}


def clutter(d: Draws) -> Shape:
    """A thing of no class: a near miss (solid disc, square ring, threaded rod, plain T, arc) or an arbitrary figure."""
    kind = d.below(8)
    if kind == 0:
        return [Part((_disc(0, 0, 500),)), Part((_disc(0, 0, d.between(150, 350)),), d.between(-40, 40))]
    if kind == 1:
        inner = d.between(200, 330)
        return [Part((_regular(0, 0, 510, 4), _regular(0, 0, inner, 4)))]
    if kind == 2:
        half = d.between(60, 120)
        return [Part((_rect(-512, -half, 512, half),)), *_threads(-500, 500, half, d.between(60, 110), -50)]
    if kind == 3:
        half, arm = d.between(50, 90), d.between(200, 400)
        return [Part((_rect(-512, -half, 512, half),), 0, 1), Part((_rect(400, -arm, 512, arm),))]
    if kind == 4:
        return [Part((_poly((-400, -300), (512, d.between(-200, 200)), (-300, 400)),), 0, d.below(2))]
    if kind == 5:
        half = d.between(80, 160)
        bars = Part((_rect(-500, -half, 500, half), _rect(-half, -500, half, 500)))
        return [bars, Part((_rect(-half, -half, half, half),))]
    if kind == 6:
        angle = np.arange(11) * TURN // 11
        radius = 250 + d.octets((11,))
        rim = np.stack([radius * COS[angle] // TRIG_ONE, radius * SIN[angle] // TRIG_ONE], axis=1)
        return [Part((rim,), 0, d.below(2))]
    inner = d.between(280, 420)
    angle = np.arange(0, d.between(400, 800), 24)
    outside = np.stack([500 * COS[angle] // TRIG_ONE, 500 * SIN[angle] // TRIG_ONE], axis=1)
    inside = np.stack([inner * COS[angle] // TRIG_ONE, inner * SIN[angle] // TRIG_ONE], axis=1)
    return [Part((np.concatenate([outside, inside[::-1]]),))]

"""A colour and a shape for every option: the same in every figure, beside every name, on every page.

No two options share both.  Colours are indices into the palette of `report.css`; shapes are matplotlib's markers, and
the symbols of the pages are drawn from these, so that a mark in a figure and the one beside a name cannot differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from matplotlib.markers import MarkerStyle
from matplotlib.path import Path
from matplotlib.transforms import Affine2D

from bench.grid import matrix
from bench.report.svg import PALETTE_SIZE

SHAPES = {
    "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "down": "v", "plus": "P", "cross": "X", "star": "*",
}  # fmt: skip
"""Shapes that are told apart at eight pixels, and what matplotlib calls them."""
_SIDE = 8.0  # of the square that a symbol's path fills, in a view box of 12
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C", Path.CLOSEPOLY: "Z"}


@dataclass(frozen=True)
class Mark:
    """Index of a colour and name of a shape."""

    colour: int
    shape: str


def marks(options: Iterable[str]) -> dict[str, Mark]:
    """The mark of every option of the matrix, in its order, and after them of those of `options` that it lacks.

    Colour 0 is the neutral one and belongs to PyTorch, the reference.  The others count through colours and shapes side
    by side: 11 and 8 have no common divisor, so that 88 options go by until a pair returns, and neighbours share
    neither.
    """
    names = dict.fromkeys([*matrix.option_names(), *options])
    names.pop(matrix.REFERENCE_OPTION, None)
    shapes, hues = tuple(SHAPES), PALETTE_SIZE - 1
    found = {name: Mark(1 + place % hues, shapes[place % len(shapes)]) for place, name in enumerate(names)}
    return {matrix.REFERENCE_OPTION: Mark(0, shapes[0])} | found


def symbols() -> dict[str, str]:
    """The path of each shape, around the origin, as the attribute `d` of an SVG path."""
    return {name: _drawn(marker) for name, marker in SHAPES.items()}


def _drawn(marker: str) -> str:
    """A marker of matplotlib as an SVG path; there y points down."""
    style = MarkerStyle(marker)
    outline = style.get_path().transformed(style.get_transform() + Affine2D().scale(_SIDE, -_SIDE))
    parts = []
    for points, code in outline.iter_segments(simplify=False):
        parts.append(_LETTERS[code])
        if code != Path.CLOSEPOLY:
            parts.append(" ".join(f"{value:.2f}" for value in points))
    return "".join(parts)

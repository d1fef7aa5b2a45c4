"""Puts names beside the marks of a figure where they cross nothing: no mark, no line, no other words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.text import Annotation, Text
from numpy.typing import NDArray

from bench.report import svg

_Floats = NDArray[np.float64]
_NEAR = 3.0  # points between a mark and a label that needs no line to it
_GAPS = (_NEAR, 8.0, 14.0, 22.0, 32.0, 44.0, 58.0, 74.0)
_ANGLES = np.deg2rad([0, 180, 90, 270, 45, 135, 315, 225, 22, 158, 338, 202, 67, 113, 293, 247])


@dataclass(frozen=True)
class Named:
    """A mark at `x`, `y` of the data, its radius in points, and its name; one without a name is in the way only."""

    x: float
    y: float
    radius: float
    name: str = ""


@dataclass
class _Taken:
    """What is drawn, in points: boxes of marks and of words as x0, y0, x1, y1, and segments as pairs of their ends."""

    marks: list[_Floats]
    words: list[_Floats]
    segments: list[_Floats] = field(default_factory=list)

    def leaves(self, box: _Floats) -> bool:
        """Whether words in this box would cross nothing."""
        boxes = np.array(self.marks + self.words)
        apart = (boxes[:, :2] >= box[2:]).any(axis=1) | (boxes[:, 2:] <= box[:2]).any(axis=1)
        return bool(apart.all()) and not crossed(np.array(self.segments).reshape(-1, 2, 2), box).any()

    def lets_through(self, line: _Floats) -> bool:
        """Whether a line crosses no words."""
        return not any(crossed(line[None], box).any() for box in self.words)


def crossed(segments: _Floats, box: _Floats) -> NDArray[np.bool_]:
    """Which segments, (n, 2, 2) as ends of x and y, touch a box of x0, y0, x1, y1; one wholly inside it does.

    The test by separating axes: those of the box, and the normal of the segment (Ericson, Real-Time Collision
    Detection, 2005, section 5.3.3).
    """
    half, middle = (box[2:] - box[:2]) / 2, segments.mean(axis=1) - (box[:2] + box[2:]) / 2
    reach = (segments[:, 1] - segments[:, 0]) / 2
    beside = (np.abs(middle) > half + np.abs(reach)).any(axis=1)
    along = np.abs(middle[:, 0] * reach[:, 1] - middle[:, 1] * reach[:, 0])
    past = along > half[0] * np.abs(reach[:, 1]) + half[1] * np.abs(reach[:, 0])
    answer: NDArray[np.bool_] = ~(beside | past)
    return answer


def place(
    axes: Axes, points: Sequence[Named], lines: Sequence[_Floats], font: float, *, words: Sequence[Annotation] = ()
) -> None:
    """Write each name at the first free place around its mark: sixteen directions, the nearest places first.

    `lines` are the drawn ones in data coordinates, each as rows of points.  `words` stand at the right end of the line
    that they are about, and move to its left end where nothing crosses them there and something does here.  A name that
    ends up away from its mark gets a line to it, which no other name crosses.  One that finds no free place is left
    out: it stands with the mark's figures where a pointer rests on it, and in the table.
    """
    axes.figure.canvas.draw()
    renderer: RendererBase = axes.figure.canvas.get_renderer()  # type: ignore[attr-defined]  # the Agg canvas has one
    frame = np.asarray(axes.get_window_extent(renderer).extents)
    centres = axes.transData.transform([(point.x, point.y) for point in points])
    marks = [np.concatenate([at - one.radius, at + one.radius]) for at, one in zip(centres, points, strict=True)]
    taken = _Taken(marks, [])
    for line in lines:
        corners = axes.transData.transform(line)
        taken.segments += list(np.stack([corners[:-1], corners[1:]], axis=1))
    for text in words:
        taken.words.append(_settled(text, renderer, taken))
    for at, point in zip(centres, points, strict=True):
        if point.name:
            _write(axes, renderer, point, at, font, taken, frame)


def _settled(text: Annotation, renderer: RendererBase, taken: _Taken) -> _Floats:
    """The box of words at the end of a line where they cross nothing, else at its right end."""
    right, away = text.xy, text.get_position()[0]
    ends: tuple[tuple[float, Literal["left", "right"], float], ...] = ((0, "left", -away), (right[0], "right", away))
    for end, align, offset in ends:
        if taken.leaves(np.asarray(Text.get_window_extent(text, renderer).extents)):
            break
        text.xy = (end, right[1])
        text.set_horizontalalignment(align)
        text.set_x(offset)
    return np.asarray(Text.get_window_extent(text, renderer).extents)


def _write(
    axes: Axes, renderer: RendererBase, point: Named, at: _Floats, font: float, taken: _Taken, frame: _Floats
) -> None:
    """Write one name, and take its place; nothing where there is none."""
    text = axes.annotate(
        point.name,
        (point.x, point.y),
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=font,
        color=svg.INK,
        ha="center",
        va="center",
        arrowprops={"arrowstyle": "-", "color": svg.MUTED, "linewidth": 0.6, "shrinkA": 2, "shrinkB": point.radius},
    )
    extent = Text.get_window_extent(text, renderer)
    # Helvetica-like page fonts are a little narrower than DejaVu: what fits here fits there.
    half = np.array([extent.width / 2 + 1, extent.height / 2 + 0.5])
    for gap in _GAPS:
        for angle in _ANGLES:
            offset = (point.radius + gap + half) * (np.cos(angle), np.sin(angle))
            box = np.concatenate([at + offset - half, at + offset + half])
            leader = np.stack([at, at + offset])
            inside = bool((box[:2] >= frame[:2]).all() and (box[2:] <= frame[2:]).all())
            if inside and taken.leaves(box) and (gap == _NEAR or taken.lets_through(leader)):
                text.set_position((offset[0], offset[1]))
                taken.words.append(box)
                if gap > _NEAR:
                    taken.segments.append(leader)
                elif text.arrow_patch is not None:
                    text.arrow_patch.set_visible(False)
                return
    text.remove()

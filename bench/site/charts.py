"""Small charts of a series over time, drawn as SVG that takes its colours from the page.

A history has thousands of them, each a line, the levels it had and the steps between these; what is drawn for the
report goes through matplotlib, which takes a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from bench.words.numbers import MISSING

WIDTH, HEIGHT = 640, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 20, 20
"""Room around the line, in the chart's own units."""


def chart(
    days: NDArray[np.float64],
    values: NDArray[np.float64],
    steps: Sequence[tuple[int, str]],
    said: Callable[[float], str],
    ends: tuple[str, str],
    description: str,
) -> Markup:
    """A series as a line, in order of time, with its levels and steps.

    `days` are times in days, `values` those of the series, both (n,), n at least 1; `steps` has for each step the place
    that it begins at and the address of its night.  `said` writes a value; `ends` are the first and the last day.
    """
    x, y = _across(days), _up(values)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    parts = [_text(_LEFT, 12, said(float(values.max()))), _text(_LEFT, HEIGHT - 6, said(float(values.min())))]
    parts += [_text(WIDTH / 2, HEIGHT - 6, f" {MISSING} ".join(dict.fromkeys(ends)), "middle")]
    edges = [0, *(at for at, _ in steps), len(values)]
    for start, end in pairwise(edges):
        level = y[start:end].mean()
        parts.append(_line(x[start], level, x[end - 1], level, "s-grid", 4))
    parts.append(f'<polyline points="{points}" class="s-ink" fill="none" stroke-width="1.2"/>')
    if len(values) < 60:  # in a longer line single runs are not told apart
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="1.8" class="f-ink"/>' for a, b in zip(x, y, strict=True)]
    for at, address in steps:
        mark = _line(x[at], _TOP - 4, x[at], HEIGHT - _BOTTOM + 4, "s-c3", 2)
        mark += f'<circle cx="{x[at]:.1f}" cy="{_TOP - 6}" r="5" class="f-c3"/>'
        parts.append(f'<a href="{escape(address)}">{mark}</a>')
    head = f'<svg class="figure trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 - numbers, and what is escaped above


def _across(days: NDArray[np.float64]) -> NDArray[np.float64]:
    return _LEFT + _share(days) * (WIDTH - _LEFT - _RIGHT)


def _up(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A series that never varies lies in the middle."""
    return HEIGHT - _BOTTOM - _share(values) * (HEIGHT - _TOP - _BOTTOM)


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = float(values.min()), float(values.max())
    return np.full(len(values), 0.5) if high == low else (values - low) / (high - low)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str, width: float) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}" stroke-width="{width}" '
        'stroke-linecap="round"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="11" class="f-muted" text-anchor="{anchor}">{escape(text)}</text>'

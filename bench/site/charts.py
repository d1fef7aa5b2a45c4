"""Small charts of a series over time, drawn as SVG that takes its colours from the page.

A history has thousands of them, each a line, the levels it had and the steps between these; what is drawn for the
report goes through matplotlib, which takes a hundred times as long.  The drawing is stretched to its place while its
strokes keep their width, and its words stand beside it, so that both are legible on a phone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

_TO = " \N{EN DASH} "

WIDTH, HEIGHT = 1000, 100
"""The drawing's own units; on a page it is as wide as there is room, and of a height that the style sheet gives."""
COLUMNS = 60
"""Columns that say their figures under a pointer, and the most runs that have a dot each: in longer lines single ones
are not told apart."""

LEAST = 0.1
"""The least that the upright axis spans, as a share of the greatest value."""


@dataclass(frozen=True)
class Mark:
    """A step in a chart: the place that it begins at, the address of its night, and what it says."""

    at: int
    address: str
    told: str


def chart(
    moments: NDArray[np.float64],
    values: NDArray[np.float64],
    days: Sequence[str],
    steps: Sequence[Mark],
    said: Callable[[float], str],
) -> Markup:
    """A series as a line, in order of time, with its levels and steps, and the ends of both axes.

    `moments` are times in days, `values` those of the series, both (n,), n at least 1; `days` names the day of each.
    `said` writes a value.
    """
    low, high = _range(values)
    x, y = _share(moments, moments.min(), moments.max()) * WIDTH, HEIGHT - _share(values, low, high) * HEIGHT
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    edges = [0, *(step.at for step in steps), len(values)]
    parts = [
        f'<path d="M{x[start]:.1f} {y[start:end].mean():.1f}H{x[end - 1]:.1f}" class="level"/>'
        for start, end in pairwise(edges)
    ]
    parts += [f'<path d="M{x[step.at]:.1f} 0V{HEIGHT}" class="rule"/>' for step in steps]
    parts.append(f'<polyline points="{points}" class="line"/>')
    parts += [_column(x, y, values, days, some, said) for some in np.array_split(range(len(x)), min(len(x), COLUMNS))]
    parts += [
        f'<a href="{escape(step.address)}" aria-label="{escape(step.told)}"><title>{escape(step.told)}</title>'
        f'<path d="M{x[step.at]:.1f} 0h0" class="step"/></a>'
        for step in steps
    ]
    drawing = (
        f'<svg class="figure" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">{"".join(parts)}</svg>'
        f'<span class="high">{escape(said(high))}</span><span class="low">{escape(said(low))}</span>'
        f'<span class="from">{escape(days[0])}</span><span class="to">{escape(days[-1])}</span>'
    )
    return Markup(f'<div class="plot">{drawing}</div>')  # noqa: S704 - numbers, and what is escaped above


def _column(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    values: NDArray[np.float64],
    days: Sequence[str],
    some: NDArray[np.int_],
    said: Callable[[float], str],
) -> str:
    """Neighbouring runs, whose figures are told wherever one points at in their part of the drawing."""
    first, last = int(some[0]), int(some[-1])
    left = 0.0 if first == 0 else (x[first - 1] + x[first]) / 2
    right = float(WIDTH) if last == len(x) - 1 else (x[last] + x[last + 1]) / 2
    when = _TO.join(dict.fromkeys((days[first], days[last])))
    ends = dict.fromkeys(said(float(end)) for end in (values[some].min(), values[some].max()))
    dot = f'<path d="M{x[first]:.1f} {y[first]:.1f}h0" class="dot"/>' if len(x) <= COLUMNS else ""
    return (
        f"<g><title>{escape(when)}: {escape(_TO.join(ends))}</title>"
        f'<rect x="{left:.1f}" y="0" width="{right - left:.1f}" height="{HEIGHT}"/>{dot}</g>'
    )


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    """Ends of the upright axis: noise of a hundredth must not look like a change of everything."""
    low, high = float(values.min()), float(values.max())
    room = max(0.0, LEAST * max(abs(low), abs(high)) - (high - low)) / 2
    return low - room, high + room


def _share(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Where each lies between two ends; in the middle where these are the same."""
    return np.full(len(values), 0.5) if high == low else (values - low) / (high - low)

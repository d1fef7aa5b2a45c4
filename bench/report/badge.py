"""An answer as a badge: what to deploy by a run, or what its check came to.

As the JSON that shields.io draws an endpoint badge of (its schema version 1), or as an SVG that needs no service.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from bench.decide.deploy.candidates import Field
from bench.decide.deploy.recommend import Recommendation, Standing
from bench.decide.gate import Verdict
from bench.words.numbers import clean, count, times

_HEIGHT, _PADDING, _SIZE = 20, 6, 11
_COLOURS = {"brightgreen": "#3c7a1f", "blue": "#1f6aa5", "red": "#b32d1e", "lightgrey": "#6a6a6a"}
"""What shields calls them, and ours for the SVG: white text on each has a contrast of 4.5 at least."""
_GROUND = "#444444"


@dataclass(frozen=True)
class Badge:
    """Two short texts and a colour by its name, see `_COLOURS`."""

    label: str
    message: str
    colour: str


def of_recommendation(field: Field, found: Recommendation) -> Badge:
    """What is recommended at one place of a run, and how much faster than PyTorch FP32 it is there."""
    model, _, _, target, _ = field.point
    label = f"{model} on {target}"
    meets = found.of(Standing.MEETS)
    if not meets:
        return Badge(label, "nothing surely meets the limits", "lightgrey")
    best = meets[0].candidate
    return Badge(label, f"{best.name}, {times(1 / best.time.value)} PyTorch", "blue")


def of_check(facts: Mapping[str, Any]) -> Badge:
    """What a check came to."""
    label = f"against {facts['against']}"
    if facts["regressed"]:
        return Badge(label, count(facts["counts"][Verdict.WORSE], "regression"), "red")
    undecided = facts["counts"].get(Verdict.UNDECIDED, 0)
    return Badge(label, f"no regression, {undecided} undecided" if undecided else "no regression", "brightgreen")


def as_json(badge: Badge) -> str:
    """The answer of an endpoint, as shields.io asks for it."""
    told = {"schemaVersion": 1, "label": badge.label, "message": badge.message, "color": badge.colour}
    return json.dumps(told, ensure_ascii=False) + "\n"


def as_svg(badge: Badge) -> str:
    """The badge as a picture.  Texts are no markup, and as wide as they were reckoned whatever the font."""
    label, message = (clean(text) for text in (badge.label, badge.message))
    widths = [_width(text) for text in (label, message)]
    left, right = (width + 2 * _PADDING for width in widths)
    said = escape(f"{label}: {message}")
    texts = "".join(
        f'<text x="{start + _PADDING}" y="14" textLength="{width}">{escape(text)}</text>'
        for start, width, text in zip((0, left), widths, (label, message), strict=True)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="{_HEIGHT}" role="img" '
        f'aria-label="{said}"><title>{said}</title>'
        f'<rect width="{left}" height="{_HEIGHT}" fill="{_GROUND}"/>'
        f'<rect x="{left}" width="{right}" height="{_HEIGHT}" fill="{_COLOURS[badge.colour]}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="{_SIZE}">{texts}</g></svg>\n'
    )


def _width(text: str) -> int:
    """Width of a text in px, in the font that comes with matplotlib."""
    if not text.strip():
        return 0
    return round(float(TextPath((0, 0), text, size=_SIZE, prop=FontProperties("DejaVu Sans")).get_extents().width)) + 1

"""Turns a matplotlib figure into a small SVG that takes its colours and its font from the page.

matplotlib writes absolute colours, a font of its own, a style sheet that would apply to the whole page, and style
attributes that the report's Content-Security-Policy forbids.  Figures are therefore drawn in the stand-in colours
below, and each is replaced here by a class that `report.css` colours for the light and the dark scheme.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

PALETTE_SIZE = 12
INK, MUTED, GRID, PAPER = "#010101", "#010102", "#010103", "#010104"
RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bench-report",
    # Names from data may hold a dollar sign; they are text, never formulas.
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "savefig.facecolor": "none",
    "path.simplify": True,
}
_NAMESPACE = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("font-family", "font-stretch", "font-variant")


def colour(index: int) -> str:
    """Stand-in for colour `index` of the option palette; indices beyond the palette begin again."""
    return f"#0201{index % PALETTE_SIZE:02x}"


@contextmanager
def settings() -> Iterator[None]:
    """matplotlib as `render` needs it.  The page's font shows the words, so matplotlib's may lack their characters."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


_CLASSES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    colour(index): f"c{index}" for index in range(PALETTE_SIZE)
}


def render(figure: Figure, name: str, description: str, titles: Mapping[str, str]) -> str:
    """SVG of `figure` for use inside HTML.

    `name` must be unique on the page: it prefixes the ids that are kept.  `description` is what a screen reader says.
    `titles` maps a matplotlib gid to the tooltip of that group.  The text is the same for the same figure, always.
    """
    buffer = io.StringIO()
    with settings():
        FigureCanvasSVG(figure).print_svg(  # type: ignore[no-untyped-call]  # matplotlib is typed in part
            buffer, metadata={"Date": None, "Creator": None}
        )
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib has just written it
    referenced = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", buffer.getvalue()))
    kept = {first or second for first, second in referenced}
    _remove(root, ("metadata", "style"))
    for element in root.iter():
        _restyle(element)
        _shorten(element)
        _rename_ids(element, name, kept, titles)
    _unwrap_empty(root)
    root.attrib = {"viewBox": root.attrib["viewBox"], "class": "figure", "role": "img", "aria-label": description}
    ET.register_namespace("", _NAMESPACE)
    return ET.tostring(root, encoding="unicode")


def _remove(root: ET.Element, tags: tuple[str, ...]) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in [f"{{{_NAMESPACE}}}{tag}" for tag in tags]:
                parent.remove(child)


def _restyle(element: ET.Element) -> None:
    """Move the style attribute into presentation attributes and colour classes."""
    style = element.attrib.pop("style", "")
    classes = []
    for declaration in filter(None, (part.strip() for part in style.split(";"))):
        key, value = (part.strip() for part in declaration.split(":", 1))
        if key in ("fill", "stroke") and value in _CLASSES:
            classes.append(f"{key[0]}-{_CLASSES[value]}")
        elif key not in _DROPPED:
            element.set(key, value.removesuffix("px"))
    if classes:
        element.set("class", " ".join(classes))


def _shorten(element: ET.Element) -> None:
    """Two decimals of a point are finer than any screen; matplotlib writes six."""
    for key in ("d", "x", "y", "transform", "width", "height"):
        if key in element.attrib:
            shorter = re.sub(r"-?\d+\.\d+", lambda match: f"{float(match[0]):.2f}", element.attrib[key])
            element.set(key, re.sub(r"\s+", " ", shorter).strip())
    if element.attrib.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
        del element.attrib["transform"]


def _rename_ids(element: ET.Element, name: str, kept: set[str], titles: Mapping[str, str]) -> None:
    identity = element.attrib.pop("id", "")
    if identity in kept:
        element.set("id", f"{name}-{identity}")
    elif identity in titles:
        title = ET.Element(f"{{{_NAMESPACE}}}title")
        title.text = titles[identity]
        element.insert(0, title)
    if _HREF in element.attrib:
        element.set("href", f"#{name}-{element.attrib.pop(_HREF)[1:]}")
    if "clip-path" in element.attrib:
        element.set("clip-path", element.attrib["clip-path"].replace("#", f"#{name}-"))


def _unwrap_empty(root: ET.Element) -> None:
    """Drop the whitespace matplotlib indents with, and groups with nothing in them."""
    for element in root.iter():
        if element.tag != f"{{{_NAMESPACE}}}text":
            element.text = element.text.strip() if element.text else None
        element.tail = None
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_NAMESPACE}}}g" and len(child) == 0:
                parent.remove(child)

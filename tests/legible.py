"""What makes a page legible, asked of it in a browser: nothing cut, no text on text, no fault that axe-core finds."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (390, 768, 1400)
"""A phone, a tablet, a notebook."""
TALLEST = 8000
"""Pixels that a page may be high before a reader has unfolded anything."""

# Rectangles of every visible line of text, without what the frames around it cut off.  Content areas of lines below
# each other may touch where lines are set tight, so a quarter of a line has to lie on another.
_OVERLAPS = """() => {
  const frames = new Map();
  const frame = (element) => {
    if (!element || element === document.documentElement) return [-Infinity, -Infinity, Infinity, Infinity];
    if (!frames.has(element)) {
      const outer = frame(element.parentElement);
      const style = getComputedStyle(element);
      const clips = !(element instanceof SVGElement) && style.overflow !== "visible";
      const box = clips && element !== document.body ? element.getBoundingClientRect() : null;
      frames.set(element, box ? [Math.max(outer[0], box.left), Math.max(outer[1], box.top),
        Math.min(outer[2], box.right), Math.min(outer[3], box.bottom)] : outer);
    }
    return frames.get(element);
  };
  const lines = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    const shown = { checkOpacity: true, checkVisibilityCSS: true, contentVisibilityAuto: true };
    if (!node.data.trim() || parent.closest(".hidden, title, script, style, option, noscript") ||
        parent.matches("details:not([open])") || !parent.checkVisibility(shown)) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const [left, top, right, bottom] = frame(parent);
    for (const box of range.getClientRects()) {
      const line = [Math.max(box.left, left), Math.max(box.top, top), Math.min(box.right, right),
        Math.min(box.bottom, bottom), node.data.trim().slice(0, 40)];
      if (line[2] - line[0] > 1 && line[3] - line[1] > 1) lines.push(line);
    }
  }
  lines.sort((one, other) => one[1] - other[1]);
  const found = [];
  lines.forEach((one, place) => {
    for (const other of lines.slice(place + 1)) {
      if (other[1] >= one[3]) break;
      const across = Math.min(one[2], other[2]) - Math.max(one[0], other[0]);
      const down = Math.min(one[3], other[3]) - other[1];
      if (across > 1 && down > Math.min(one[3] - one[1], other[3] - other[1]) / 4) found.push([one[4], other[4]]);
    }
  });
  return found;
}"""
_CUT = """() => [...document.querySelectorAll(".scroll")]
  .filter((box) => box.checkVisibility() && box.scrollWidth > box.clientWidth + 1)
  .map((box) => [box.getAttribute("aria-label"), box.clientWidth, box.scrollWidth])"""


def faults(page: Page) -> list[str]:
    """What is illegible of a page as it stands at its width, in words."""
    width, height = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    viewport = page.viewport_size
    assert viewport is not None
    found = [f"scrolls sideways: {width} px in {viewport['width']}"] if width > viewport["width"] else []
    found += [f"{height} px high"] if height > TALLEST else []
    found += [f"cut: {label}, {outer} of {inner} px" for label, outer, inner in page.evaluate(_CUT)]
    return found + overlaps(page)


def overlaps(page: Page) -> list[str]:
    """Texts that lie on each other."""
    return [f"{one!r} lies on {other!r}" for one, other in page.evaluate(_OVERLAPS)]


def barriers(page: Page) -> list[str]:
    """Serious and critical faults of accessibility that axe-core finds, each with the elements that have it."""
    # Without `preload` it would fetch the style sheets again, which a page opened as a file may not.
    answer: dict[str, Any] = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response
    return [
        f"{one['id']}: {one['help']}: {'; '.join(str(node['target']) for node in one['nodes'][:5])}"
        for one in answer["violations"]
        if one["impact"] in ("serious", "critical")
    ]


def unfold(page: Page) -> None:
    """Open everything that a reader may open."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")

"""The comparison site: the guide's table with a verdict in every cell, as static pages in two languages."""

from bench.site.pages import build

__all__ = ["build"]

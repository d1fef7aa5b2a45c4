"""Text from data in Markdown."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]|~])")


def escaped(text: str) -> str:
    """`text` as Markdown that shows it letter by letter, on one line: no markup of its own, no HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(r"\\\1", text)

"""Text from data in Markdown."""

from __future__ import annotations


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands, on one line."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in " ".join(text.split()))

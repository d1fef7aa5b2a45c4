"""A quote's Markdown as plain pieces of text and code."""

from __future__ import annotations

from dataclasses import dataclass

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark")
_KINDS = {"code_inline": "code", "softbreak": "text", "hardbreak": "text"}


@dataclass(frozen=True)
class Span:
    """A piece of a quote: plain text, or code."""

    kind: str
    text: str


def spans(markdown: str) -> list[Span]:
    """A quote's Markdown as text: the words of its links without their addresses, code as code."""
    result = []
    for block in _MARKDOWN.parseInline(markdown):
        for token in block.children or []:
            text = token.content or ("\n" if token.type.endswith("break") else "")
            if text:
                result.append(Span(_KINDS.get(token.type, "text"), text))
    return result

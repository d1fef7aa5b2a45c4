"""Words for people, in both languages of the project."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from bench.grid.entries import Entry

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Text(Entry):
    """Words that are shown to people, in both languages of the report."""

    en: Words
    zh: Words

"""Where registered statements stand in the guide's own lines, to the character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.decide.claims.document import Document, says
from bench.decide.claims.statements import GENERAL, Claim, DocumentFacts

Kind = Literal["statement", "table"]
_BAR = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, order=True)
class Region:
    """Characters of the document, counted from 1 in code points; `end_column` is that after the last one."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Place:
    """One place that a claim quotes.  `region` is None where the document has nothing of the kind any more."""

    claim: Claim
    kind: Kind
    region: Region | None


def locate(text: str, document: Document, claims: Iterable[Claim], facts: DocumentFacts) -> list[Place]:
    """Every claim's statement and, where it has one, its cell of the table; in the order of the claims.

    `document` is what `text` was parsed to.  Where the words have changed, the region is that of the words which now
    stand in their place.
    """
    lines = text.splitlines()
    bullets = {(bullet.option, bullet.aspect): bullet for bullet in document.bullets}
    cells = {(cell.option, cell.aspect): cell for cell in document.cells}
    columns = {aspect: number for number, aspect in enumerate(facts.aspects, 1)}
    places = []
    for claim in claims:
        if claim.aspect == GENERAL:
            places.append(Place(claim, "statement", _statement(lines, document, claim)))
            continue
        bullet, cell = bullets.get((claim.option, claim.aspect)), cells.get((claim.option, claim.aspect))
        stands = None if bullet is None else _words(lines, bullet.line, bullet.quote)
        places.append(Place(claim, "statement", stands))
        if claim.table is not None:
            stands = None if cell is None else _cell(lines, cell.line, columns[claim.aspect])
            places.append(Place(claim, "table", stands))
    return places


def _statement(lines: Sequence[str], document: Document, claim: Claim) -> Region | None:
    found = [one for one in document.statements if one.section == claim.section and says(one.quote, claim.quote)]
    found.sort(key=lambda one: one.line != claim.line)
    return _words(lines, found[0].line, claim.quote) if found else None


def _words(lines: Sequence[str], first: int, quote: str) -> Region:
    """Where a quote begins in or after line `first`; its lines are indented as the document has them."""
    parts = quote.split("\n")
    for index in range(first - 1, len(lines) - len(parts) + 1):
        if len(parts) == 1:
            column = lines[index].find(quote)
            if column >= 0:
                return Region(index + 1, column + 1, index + 1, column + len(quote) + 1)
            continue
        own = lines[index : index + len(parts)]
        if own[0].rstrip().endswith(parts[0].rstrip()) and own[-1].lstrip().startswith(parts[-1].lstrip()):
            start = own[0].rindex(parts[0].rstrip())
            end = len(own[-1]) - len(own[-1].lstrip()) + len(parts[-1].lstrip())
            return Region(index + 1, start + 1, index + len(parts), end + 1)
    # Escapes and entities are not as they stand in the source: then the line as a whole.
    return Region(first, 1, first, len(lines[first - 1]) + 1)


def _cell(lines: Sequence[str], line: int, column: int) -> Region:
    """The words of a table's cell without the blanks around them."""
    row = lines[line - 1]
    edges = [found.start() for found in _BAR.finditer(row)]
    if not row.lstrip().startswith("|"):
        edges.insert(0, -1)
    if not row.rstrip().endswith("|"):
        edges.append(len(row))
    start, end = edges[column] + 1, edges[column + 1]
    words = row[start:end]
    start += len(words) - len(words.lstrip())
    return Region(line, start + 1, line, start + len(words.strip()) + 1)

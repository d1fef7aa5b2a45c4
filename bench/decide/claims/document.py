"""The guide's Markdown as statements with line numbers, and how the registered claims differ from it.

The document itself is not part of this repository; whoever has it names it (`--document PATH`).  A claim whose words
are no longer in it is stale: its verdict was about something else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from bench.decide.claims.registry import load_document_facts
from bench.decide.claims.statements import GENERAL, Claim, DocumentFacts
from bench.reasons import UsageError

_LABELLED = re.compile(r"\*\*(?P<label>[^*]+?)\*\*[：:]\s*(?P<quote>.+)", re.DOTALL)

_STOPS = "。！？，；：.!?,;:"


@dataclass(frozen=True)
class Bullet:
    """One of an option's statements: `- **label**：quote`."""

    option: str
    aspect: str
    section: str
    line: int
    quote: str


@dataclass(frozen=True)
class TableEntry:
    """One cell of the guide's comparison table; `Cell` is what the bench measures."""

    option: str
    aspect: str
    line: int
    quote: str


@dataclass(frozen=True)
class Statement:
    """Any other paragraph or list item, Markdown as it stands."""

    section: str
    line: int
    quote: str


@dataclass(frozen=True)
class Document:
    """What a guide says, and where.

    `sentences` are those of the statements that document.toml does not pass over: each has to be in some claim.
    `unknown` holds places that look like statements of an option, or on an aspect, that document.toml does not list.
    """

    sha256: str
    lines: int
    bullets: tuple[Bullet, ...]
    cells: tuple[TableEntry, ...]
    statements: tuple[Statement, ...]
    sentences: tuple[Statement, ...]
    unknown: tuple[Statement, ...]


class Kind(StrEnum):
    """How a claim and the document differ."""

    MISSING = "missing"
    CHANGED = "changed"
    MOVED = "moved"
    UNREGISTERED = "unregistered"


@dataclass(frozen=True)
class Problem:
    """One difference.  `claim` is empty where the document says something that no claim holds."""

    kind: Kind
    claim: str
    line: int
    text: str

    def __str__(self) -> str:
        """One line for people."""
        return f"line {self.line}: {self.claim or 'no claim'}: {self.kind}: {self.text}"


def read(path: Path, facts: DocumentFacts | None = None) -> Document:
    """Parse the guide at `path`.  Raises UsageError when it cannot be read or holds no statement of an option."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text: {error}") from error
    facts = facts or load_document_facts()
    document = parse(text, facts)
    if not document.bullets:
        headings = ", ".join(facts.options.values())
        raise UsageError(f"{path}: no list of statements under any of the headings {headings}; is this the guide?")
    return document


def parse(text: str, facts: DocumentFacts) -> Document:
    """Split Markdown into statements; `facts` says which headings, labels and columns are options and aspects."""
    options = {name: option for option, name in facts.options.items()}
    aspects = {name: aspect for aspect, name in facts.aspects.items()}
    bullets: list[Bullet] = []
    statements: list[Statement] = []
    unknown: list[Statement] = []
    tokens = _tokens(text)
    for section, line, is_item, quote in _blocks(tokens):
        labelled = _LABELLED.fullmatch(quote) if is_item else None
        option = options.get(section, "")
        aspect = aspects.get(labelled["label"], "") if labelled else ""
        if labelled and option and aspect:
            bullets.append(Bullet(option, aspect, section, line, labelled["quote"]))
        elif labelled and (option or aspect):
            unknown.append(Statement(section, line, quote))
        else:
            statements.append(Statement(section, line, quote))
    cells: list[TableEntry] = []
    for line, row, column, quote in _cells(tokens, facts.columns):
        if row in options:
            cells.append(TableEntry(options[row], aspects[column], line, quote))
        else:
            unknown.append(Statement(facts.table_section, line, f"{row} | {column}: {quote}"))
    sentences = (part for statement in statements for part in _sentences(statement))
    meant = tuple(sentence for sentence in sentences if not _passed_over(sentence, facts))
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
    count = len(text.splitlines())
    return Document(digest, count, tuple(bullets), tuple(cells), tuple(statements), meant, tuple(unknown))


def compare(document: Document, claims: Iterable[Claim]) -> list[Problem]:
    """Everything in which claims and document differ, in the order of lines; empty when each word is in its place."""
    registered = tuple(claims)
    bullets = {(bullet.option, bullet.aspect): bullet for bullet in document.bullets}
    cells = {(cell.option, cell.aspect): cell for cell in document.cells}
    problems: list[Problem] = []
    for claim in registered:
        if claim.aspect == GENERAL:
            problems += _compare_statement(claim, document.statements)
            continue
        key = (claim.option, claim.aspect)
        problems += _compare_quote(claim.id, claim.line, claim.quote, bullets.get(key), "statement")
        if claim.table is not None:
            problems += _compare_quote(claim.id, claim.table.line, claim.table.quote, cells.get(key), "table cell")
    known = {(claim.option, claim.aspect) for claim in registered}
    places: list[Bullet | TableEntry] = [*document.bullets, *document.cells]
    for found in places:
        if (found.option, found.aspect) not in known:
            text = f"no claim {found.option}.{found.aspect} for {found.quote!r}"
            problems.append(Problem(Kind.UNREGISTERED, "", found.line, text))
    general = [(claim.section, claim.quote) for claim in registered if claim.aspect == GENERAL]
    for sentence in document.sentences:
        quotes = [quote for section, quote in general if section == sentence.section]
        if not any(quote in sentence.quote or sentence.quote in quote for quote in quotes):
            text = f"no general claim, and not passed over: {sentence.quote!r}"
            problems.append(Problem(Kind.UNREGISTERED, "", sentence.line, text))
    for statement in document.unknown:
        text = f"neither option nor aspect of document.toml: {statement.quote!r}"
        problems.append(Problem(Kind.UNREGISTERED, "", statement.line, text))
    return sorted(problems, key=lambda problem: (problem.line, problem.claim, problem.text))


def stale(document: Document, claims: Iterable[Claim]) -> set[str]:
    """Ids of the claims whose words the document no longer holds.  Words that only moved are still said."""
    gone = {Kind.MISSING, Kind.CHANGED}
    return {problem.claim for problem in compare(document, claims) if problem.kind in gone}


def _compare_quote(claim: str, line: int, quote: str, found: Bullet | TableEntry | None, what: str) -> list[Problem]:
    if found is None:
        return [Problem(Kind.MISSING, claim, line, f"the document has no such {what}")]
    if found.quote != quote:
        return [Problem(Kind.CHANGED, claim, found.line, f"the {what} is now {found.quote!r}, was {quote!r}")]
    if found.line != line:
        return [Problem(Kind.MOVED, claim, found.line, f"the {what} was in line {line}")]
    return []


def _compare_statement(claim: Claim, statements: Iterable[Statement]) -> list[Problem]:
    """A general claim quotes sentences or clauses: they must stand in a paragraph or item of its section."""
    lines = [s.line for s in statements if s.section == claim.section and says(s.quote, claim.quote)]
    if not lines:
        where = f"section {claim.section!r} no longer says {claim.quote!r}"
        return [Problem(Kind.CHANGED, claim.id, claim.line, where)]
    if claim.line not in lines:
        return [Problem(Kind.MOVED, claim.id, lines[0], f"the statement was in line {claim.line}")]
    return []


def says(statement: str, quote: str) -> bool:
    """Whether the quote stands in the statement as whole clauses, so that no word beside it turns its meaning."""
    for found in re.finditer(re.escape(quote), statement):
        before, after = statement[: found.start()].rstrip(), statement[found.end() :].lstrip()
        if (not before or before[-1] in _STOPS) and (not after or quote[-1] in _STOPS or after[0] in _STOPS):
            return True
    return False


def _sentences(statement: Statement) -> Iterator[Statement]:
    for quote in re.split(r"(?<=[。！？])", statement.quote):
        if quote.strip():
            yield Statement(statement.section, statement.line, quote.strip())


def _passed_over(sentence: Statement, facts: DocumentFacts) -> bool:
    return any(
        sentence.section in entry.sections or sentence.quote.startswith(entry.begins) for entry in facts.passed_over
    )


def _tokens(text: str) -> list[Token]:
    """Block tokens with the lines of the file: front matter is blanked, as CommonMark would read it as a heading."""
    lines = text.splitlines()
    if lines and lines[0] == "---" and "---" in lines[1:]:
        end = lines.index("---", 1)
        lines[: end + 1] = [""] * (end + 1)
    return MarkdownIt("commonmark").enable("table").parse("\n".join(lines))


def _blocks(tokens: list[Token]) -> Iterator[tuple[str, int, bool, str]]:
    """(section, line, whether it begins a list item, Markdown source) of each paragraph outside tables."""
    section = ""
    for before, opening, inline in zip([None, *tokens], tokens, tokens[1:], strict=False):
        if inline.type != "inline" or inline.map is None:
            continue
        if opening.type == "heading_open":
            section = inline.content
        elif opening.type == "paragraph_open":
            is_item = before is not None and before.type == "list_item_open"
            yield section, inline.map[0] + 1, is_item, inline.content


def _cells(tokens: list[Token], columns: tuple[str, ...]) -> Iterator[tuple[int, str, str, str]]:
    """(line, row's name, column's name, Markdown source) of each cell of the tables whose header is `columns`."""
    header: tuple[str, ...] = ()
    line = 0
    row: list[str] = []
    for before, token in pairwise(tokens):
        if token.type == "table_open":
            header = ()
        elif token.type == "tr_open":
            line, row = (token.map or [0])[0] + 1, []
        elif token.type == "inline" and before.type in ("th_open", "td_open"):
            row.append(token.content)
        elif token.type == "tr_close" and not header:
            header = tuple(row)
        elif token.type == "tr_close" and header == columns:
            yield from ((line, row[0], column, quote) for column, quote in zip(header[1:], row[1:], strict=True))

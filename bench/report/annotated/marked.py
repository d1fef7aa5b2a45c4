"""Annotations as Markdown: the guide's own lines with a note under each statement that was judged."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bench.decide.claims.statements import GENERAL
from bench.decide.claims.verdicts import NAMES, Verdict
from bench.report.annotated.notes import Annotated, Note
from bench.words.markdown import escaped
from bench.words.spans import spans

_ITEM = re.compile(r"\s*(?:[-*+]|\d{1,9}[.)])\s+")


def render(annotated: Annotated) -> str:
    """The document with notes as block quotes.  Equal verdicts and documents give equal text."""
    lines = annotated.text.splitlines()
    after: dict[int, list[str]] = {}
    for line, notes in _by_line(annotated.statements).items():
        indent = _indent(lines, notes[0])
        after[line] = [f"{indent}{text}".rstrip() for text in _quote(_emphasised(note, annotated) for note in notes)]
    cells = [note for note in annotated.notes if note.place.kind == "table" and note.place.region is not None]
    if cells:
        last = max(note.place.region.line for note in cells if note.place.region is not None)
        after.setdefault(last, []).extend(["", *_quote(_table(annotated, cells))])
    head = _front_matter(lines)
    told = [*lines[:head], *([""] if head else []), *_quote(_head(annotated))]
    if lines[head : head + 1] != [""]:
        told.append("")
    for number, own in enumerate(lines[head:], head + 1):
        told += [own, *after.get(number, [])]
    return "\n".join(told) + "\n"


def _head(annotated: Annotated) -> list[str]:
    locale, notes = annotated.locale, annotated.statements
    numbers = {verdict: sum(note.verdict is verdict for note in notes) for verdict in Verdict}
    counts = locale("head.separator").join(
        locale("head.count", verdict=locale.pick(NAMES[verdict]), n=number)
        for verdict, number in numbers.items()
        if number
    )
    machines = sorted({part for note in notes if note.row for part in note.row.machine.split("; ") if part})
    paragraphs = [f"**{escaped(locale('head.title'))}**", escaped(locale("head.counts", n=len(notes), counts=counts))]
    if machines:
        paragraphs.append(escaped(locale("head.machines", machines=locale("head.separator").join(machines))))
    paragraphs.append(escaped(locale("head.read")))
    gone = [note for note in annotated.notes if note.place.region is None]
    if gone:
        paragraphs.append(escaped(locale("head.gone")))
        paragraphs += [f"- `{note.claim.id}` {escaped(note.text)}" for note in gone]
    return paragraphs


def _table(annotated: Annotated, cells: Sequence[Note]) -> list[str]:
    """A row of the table per item: each column's verdict, and what the wording of the cell changes."""
    locale, facts = annotated.locale, annotated.facts
    paragraphs = [escaped(locale("head.table"))]
    for option, name in facts.options.items():
        told = []
        for note in cells:
            if note.claim.option != option:
                continue
            text = f"**{escaped(locale.pick(NAMES[note.verdict]))}**"
            table = note.claim.table
            if table is not None and table.difference is not None and note.verdict is not Verdict.STALE:
                text += escaped(locale("head.adds", difference=locale.pick(table.difference)))
            told.append(locale("also", aspect=escaped(facts.aspects[note.claim.aspect]), note=text))
        if told:
            paragraphs.append(f"- {escaped(name)} — {locale('head.separator').join(told)}")
    return paragraphs


def _emphasised(note: Note, annotated: Annotated) -> str:
    """The note with its verdict in bold, after the words it is about where more stands in the line than they."""
    name = annotated.locale.pick(NAMES[note.verdict])
    text = f"**{escaped(name)}**{escaped(note.text.removeprefix(name))}"
    if note.claim.aspect != GENERAL:
        return text
    return escaped(annotated.locale("quoted", quote="".join(span.text for span in spans(note.claim.quote)))) + text


def _by_line(notes: Iterable[Note]) -> dict[int, list[Note]]:
    """Notes by the line after which they stand, the last of their statement."""
    found: dict[int, list[Note]] = {}
    for note in sorted((one for one in notes if one.place.region is not None), key=lambda one: one.identity):
        assert note.place.region is not None
        found.setdefault(note.place.region.end_line, []).append(note)
    return {
        line: sorted(group, key=lambda one: (one.place.region or (), one.identity)) for line, group in found.items()
    }


def _indent(lines: Sequence[str], note: Note) -> str:
    """Blanks that keep a quote inside the list item, or the block, that its statement stands in."""
    assert note.place.region is not None
    line = lines[note.place.region.line - 1]
    item = _ITEM.match(line)
    return " " * (item.end() if item else len(line) - len(line.lstrip()))


def _quote(paragraphs: Iterable[str]) -> list[str]:
    """Paragraphs as one block quote."""
    told: list[str] = []
    for paragraph in paragraphs:
        told += [">", f"> {paragraph}"] if told else [f"> {paragraph}"]
    return told


def _front_matter(lines: Sequence[str]) -> int:
    """Number of lines of the front matter, which has to stay first."""
    return lines.index("---", 1) + 1 if lines and lines[0] == "---" and "---" in lines[1:] else 0

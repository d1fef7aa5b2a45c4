"""Tables and sentences on the terminal that fit its width: columns are left out whole, a figure is never broken."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.cells import cell_len, chop_cells
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from bench.words.numbers import MISSING

Row = TypeVar("Row")
_WIDE = r"\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef"
_CLOSING = r"\uff0c\u3002\uff1b\uff1a\u3001\uff01\uff1f\uff09"
# A wide character with what must not begin a line, a run of others with their no-break spaces, or blanks.
_PIECES = re.compile(rf"[{_WIDE}][{_CLOSING}]*|[^ {_WIDE}]+| +")
MARK = "*"
"""Behind the name of an option that the guide does not name; below the table it is said what that means."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: its title, the text of a row, and how soon it is left out (0: never, else the highest first)."""

    title: str
    text: Callable[[Row], str]
    drop: int = 0
    right: bool = True

    def shown(self, row: Row) -> Text:
        """A row's text on one line: lines of a name would become lines of the table."""
        return Text(" ".join(self.text(row).split("\n")))


def print_fitted(
    rows: Sequence[Row],
    columns: Sequence[Column[Row]],
    console: Console,
    *,
    name: Callable[[Row], str],
    left_out: Callable[[Sequence[str]], str],
    colon: str,
    named: int = 1,
    style: Callable[[Row], str] = lambda _row: "",
) -> None:
    """Print rows; below the table a sentence on the columns that were `left_out`.

    Where not even the narrowest table fits, each row is a block under its `name`, without the first `named` columns;
    `colon` stands between titles and figures there.
    """
    kept = list(columns)
    while not _fits(table := _table(rows, kept, style), console):
        candidates = [column for column in kept if column.drop]
        if not candidates:
            _print_blocks(rows, columns[named:], console, name, colon)
            return
        kept.remove(max(candidates, key=lambda column: column.drop))
    console.print(table)
    dropped = [column.title for column in columns if column not in kept]
    if dropped:
        console.print(Text(left_out(dropped), style="dim"))


def _fits(table: Table, console: Console) -> bool:
    return Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= console.width


def _table(rows: Sequence[Row], columns: Sequence[Column[Row]], style: Callable[[Row], str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
    for column in columns:
        # Without a least width rich would shorten a figure with an ellipsis to make the table fit.
        width = max(text.cell_len for text in (Text(column.title), *map(column.shown, rows)))
        table.add_column(Text(column.title), justify="right" if column.right else "left", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*(column.shown(row) for column in columns), style=style(row))
    return table


def _print_blocks(
    rows: Sequence[Row], columns: Sequence[Column[Row]], console: Console, name: Callable[[Row], str], colon: str
) -> None:
    """A figure that does not fit beside its name stands below it, and sticks out rather than break."""
    for row in rows:
        console.print(Text(name(row), style="bold"))
        for column in columns:
            value = column.shown(row).plain
            if value == MISSING:
                continue
            lines = [f"  {column.title}{colon}{value}"]
            if Text(lines[0]).cell_len > console.width:
                lines = [f"  {column.title}{colon.rstrip()}", f"    {value}"]
            for line in lines:
                console.print(Text(line), no_wrap=True, overflow="ignore", crop=False)


def print_folded(text: str, console: Console, style: str = "") -> None:
    """Print a sentence in lines that fit, each begun with its blanks, as text and never as markup.

    They break at blanks and between Chinese characters, and not at a no-break space as rich would: an interval stays
    whole.  Only what is longer than a line is cut.
    """
    words = " ".join(text.split("\n"))
    indent = words[: len(words) - len(words.lstrip(" "))]
    lines, line = [], indent
    for piece in _PIECES.findall(words.lstrip(" ")):
        if line.strip() and cell_len((line + piece).rstrip(" ")) > console.width:
            lines.append(line)
            line = indent + piece.lstrip(" ")
        else:
            line += piece
        if cell_len(line.rstrip(" ")) > console.width:
            *full, line = chop_cells(line, console.width)
            lines += full
    for one in (*lines, line):
        console.print(Text(one.rstrip(" "), style=style), no_wrap=True, overflow="ignore", crop=False)

"""A calibration as rows: how long the harness's guests take where the vendors' own tools time the same inference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.stats import Interval
from bench.stats.contrast import LAUNCHES_MIN, mean
from bench.store.calibration import GUEST, Turn, read
from bench.words.locale import Locale, texts
from bench.words.numbers import MISSING, interval, number

_COLUMNS = ("cell", "tool", "rounds", "ratio", "interval", "guest", "time", "copies")
_WIDTH = 120


@dataclass(frozen=True)
class Row:
    """A cell's guest against one tool; above 1 in `ratio` the guest takes longer.

    `guest_ms` and `tool_ms` are medians over rounds; `copies` is what the tool's own copies add to what lies between
    them, a share of that, or None where it does not tell them apart.
    """

    cell: str
    tool: str
    rounds: int
    ratio: Interval
    guest_ms: float
    tool_ms: float
    copies: float | None


def rows(turns: Sequence[Turn]) -> list[Row]:
    """A row for each cell and tool, by their names; only rounds that the guest had too count."""
    guests = {(turn.cell, turn.round): turn for turn in turns if turn.tool == GUEST}
    grouped: dict[tuple[str, str], list[tuple[Turn, Turn]]] = {}
    for turn in sorted(turns, key=lambda one: (one.cell, one.tool, one.round)):
        guest = guests.get((turn.cell, turn.round))
        if guest is not None and turn.tool != GUEST:
            grouped.setdefault((turn.cell, turn.tool), []).append((guest, turn))
    return [_row(cell, tool, pairs) for (cell, tool), pairs in grouped.items()]


def _row(cell: str, tool: str, pairs: Sequence[tuple[Turn, Turn]]) -> Row:
    found = mean([math.log(guest.median_ms / other.median_ms) for guest, other in pairs])
    enough = len(pairs) >= LAUNCHES_MIN
    copies = [math.log(other.median_ms / other.inner_ms) for _, other in pairs if other.inner_ms is not None]
    return Row(
        cell,
        tool,
        len(pairs),
        found.ratio() if enough else Interval(math.exp(found.value), None, None),
        float(np.median([guest.median_ms for guest, _ in pairs])),
        float(np.median([other.median_ms for _, other in pairs])),
        math.expm1(float(np.mean(copies))) if copies else None,
    )


def print_rows(found: Sequence[Row], console: Console, t: Locale) -> None:
    """Print them as a table, wider than a narrow terminal so that no figure is cut.  Nothing in it is markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, title in enumerate(_titles(t)):
        table.add_column(Text(title), justify="left" if place < 2 else "right", no_wrap=True)
    for row in found:
        table.add_row(*(Text(text) for text in _texts(row)))
    Console(file=console.file, width=max(console.width, _WIDTH)).print(table)


def document(folder: Path) -> str:
    """Markdown of every calibration in a folder: what each tool's time includes, then what came out, and of what.

    Raises StoreError for a file that is no calibration.
    """
    recorded = [read(file) for file in sorted(folder.glob("*.parquet"))]
    if not recorded:
        return "No calibration is recorded yet."
    told = sorted({tuple(tool) for _, facts in recorded for tool in facts["tools"]})
    lines = ["| option | tool | between its two readings of the clock |", "|---|---|---|"]
    lines += ["| " + " | ".join(tool) + " |" for tool in told]
    return "\n\n".join(["\n".join(lines), *(_section(turns, facts) for turns, facts in recorded)])


def _section(turns: Sequence[Turn], facts: Mapping[str, Any]) -> str:
    lines = [f"| {' | '.join(_titles(texts('terminal', 'en')))} |", "|---|---|" + "---:|" * (len(_COLUMNS) - 2)]
    lines += ["| " + " | ".join(_texts(row)) + " |" for row in rows(turns)]
    versions = {f"{cell} {about['version']}" for cell, about in facts["cells"].items() if about["version"]}
    said = f"{facts['machine']}, {facts['started']}, {facts['seconds'] / 60:.0f} minutes, {facts['pages']} pages"
    return "\n".join([f"{said}. Versions: {', '.join(sorted(versions))}.", "", *lines])


def _titles(t: Locale) -> list[str]:
    return [t(f"calibrate.column.{name}") for name in _COLUMNS]


def _texts(row: Row) -> tuple[str, ...]:
    return (
        row.cell,
        row.tool,
        str(row.rounds),
        number(row.ratio.value, 4),
        interval(row.ratio.low, row.ratio.high, 4) or MISSING,
        number(row.guest_ms, 2),
        number(row.tool_ms, 2),
        MISSING if row.copies is None else f"{number(100 * row.copies, 1)} %",
    )

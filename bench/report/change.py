"""An A/B in words and figures: what was compared, what was decided, and what could have been seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.cells import set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.words.locale import Locale
from bench.words.messages import messages
from bench.words.numbers import MISSING, number

_COLUMNS = ("stage", "pairs", "ratio", "interval", "sd", "visible")
_NAMES = 9
"""Cells for the names of the sides."""


def print_outcome(facts: Mapping[str, Any], console: Console, t: Locale) -> None:
    """Print the answer, a table of its stages, and the two sides.  Nothing in it is markup."""
    change, words = t(f"ab.change.{facts['change']}"), messages(t.language)(facts["words"])
    console.print(Text(t("ab.answer", cell=facts["cell"], change=change, words=words), style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(Text(t(f"ab.column.{name}")), justify="left" if name == "stage" else "right")
    for name in ("screen", "confirm"):
        stage = facts[name]
        if stage is not None:
            interval = f"[{number(stage['low'], 4)}, {number(stage['high'], 4)}]"
            table.add_row(
                t(f"ab.stage.{name}"),
                str(stage["pairs"]),
                number(stage["ratio"], 4),
                interval if stage["low"] is not None else MISSING,
                _percent(stage["sd"]),
                _percent(stage["visible"]),
            )
    console.print(table)
    for name, side in facts["sides"].items():
        given = {"name": set_cell_size(t(f"check.column.{name}"), _NAMES), "label": side["label"]}
        told = t("ab.side", **given, p50=number(side["p50_ms"], 2), huge=number(side["huge_mb"], 0))
        console.print(Text(told, style="dim"))
    told = t("ab.margin", margin=_percent(facts["margin"]), pages=t(f"ab.pages.{facts['pages']}"))
    console.print(Text(told, style="dim"))


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{number(100 * share, 2)} %"

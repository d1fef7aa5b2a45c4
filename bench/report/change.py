"""An A/B in words and figures: what was compared, what was decided, and what could have been seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.words.numbers import MISSING, number


def print_outcome(facts: Mapping[str, Any], console: Console) -> None:
    """Print the answer, a table of its stages, and the two sides.  Nothing in it is markup."""
    console.print(Text(f"{facts['cell']}: {facts['change']}, {facts['words']}", style="bold"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("stage", "pairs", "candidate / base", "95 % interval", "sd of a pair", "visible"):
        table.add_column(Text(title), justify="left" if title == "stage" else "right")
    for name in ("screen", "confirm"):
        stage = facts[name]
        if stage is not None:
            interval = f"[{number(stage['low'], 4)}, {number(stage['high'], 4)}]"
            table.add_row(
                name,
                str(stage["pairs"]),
                number(stage["ratio"], 4),
                interval if stage["low"] is not None else MISSING,
                _percent(stage["sd"]),
                _percent(stage["visible"]),
            )
    console.print(table)
    for name, side in facts["sides"].items():
        huge = f"{side['huge_mb']:.0f} MB on huge pages"
        console.print(Text(f"{name:9}  {side['label']}  p50 {side['p50_ms']:.2f} ms, {huge}", style="dim"))
    console.print(
        Text(
            f"Margin {_percent(facts['margin'])}; memory on {facts['pages']} pages. 'visible' is the smallest slowdown "
            "that as many pairs call regressed 95 times in 100.",
            style="dim",
        )
    )


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{number(100 * share, 2)} %"

"""An A/B in words and figures: what was compared, what was decided, and what could have been seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.grid.matrix import Cell
from bench.measure.comparison import Outcome
from bench.measure.pairs import BASE, SIDES, Side, Turns
from bench.stats.change import Change, Decided
from bench.words.numbers import MISSING, number

_WORDS = {
    Change.REGRESSED: "slower, seen and confirmed",
    Change.IMPROVED: "faster, seen and confirmed",
    Change.OK: "not slower by more than the margin",
    Change.UNDECIDED: "undecided",
}


def summary(cell: Cell, sides: Mapping[str, Side], outcome: Outcome, *, huge: bool) -> dict[str, Any]:
    """The facts of an A/B, ready for JSON.  Ratios are candidate over base: above 1 the candidate is slower."""
    everything = [*outcome.screened, *outcome.confirming]
    return {
        "cell": cell.id,
        "change": outcome.change.value,
        "words": _WORDS[outcome.change],
        "margin": outcome.margin,
        "pages": "huge" if huge else "ordinary",
        "seconds": round(outcome.seconds, 1),
        "screen": _stage(outcome.screen),
        "confirm": None if outcome.confirmation is None else _stage(outcome.confirmation),
        "sides": {name: _side(sides[name], everything, name) for name in SIDES},
    }


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


def _stage(decided: Decided) -> dict[str, Any]:
    found = decided.found
    low, high = (None, None) if found.repeats < 2 else (math.exp(end) for end in found.bounds(0.95))
    return {
        "change": decided.change.value,
        "pairs": found.repeats,
        "ratio": math.exp(found.value),
        "low": low,
        "high": high,
        "sd": found.error * math.sqrt(found.freedom + 1) if found.repeats > 1 else None,
        "autocorrelation": found.autocorrelation,
        "alpha": decided.alpha,
        "visible": None if math.isnan(decided.visible) else decided.visible,
    }


def _side(side: Side, pairs: list[Turns], name: str) -> dict[str, Any]:
    times = np.concatenate([pair.base_ms if name == BASE else pair.candidate_ms for pair in pairs])
    huge = [pair.base_huge_bytes if name == BASE else pair.candidate_huge_bytes for pair in pairs]
    attested = pairs[-1].attested[name]
    return {
        "label": side.label,
        "p50_ms": float(np.median(times)),
        "huge_mb": float(np.median(huge)) / 1e6,
        "compute": attested.get("compute", ""),
        "version": attested.get("version", ""),
        "lock_sha256": side.env.lock_sha256,
        "artifact_sha256": side.spec["manifest"].get("sha256", ""),
    }


def _percent(share: float | None) -> str:
    return MISSING if share is None else f"{number(100 * share, 2)} %"

"""Which operators grew, on the terminal: how many there are, where the time went, and what to make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.words.numbers import MISSING, number, shortened

ARROW = "\N{RIGHTWARDS ARROW}"
TYPES, NAMES = 10, 5
"""How many are shown; the facts have more, operators.parquet all."""


def print_operators(facts: Mapping[str, Any], console: Console, say: Callable[[str], str] = str) -> None:
    """Print what `bench.decide.operators.facts` gave, or `why` there is nothing.  Nothing in it is markup.

    `say` makes another language's words of ours.
    """
    if "why" in facts:
        console.print(Text(say(summary(facts)), style="dim"))
        return
    console.print(Text(say(summary(facts)), style="bold"))
    table = _table(say, "type", ("base", "candidate"))
    for one in (*facts["types"][:TYPES], {**facts, "type": say("all"), "share": None}):
        table.add_row(Text(shortened(one["type"], 60)), str(one["base"]), str(one["candidate"]), *_times(one))
    console.print(table)
    if facts["names"]:
        table = _table(say, "operator on both sides", ())
        for one in facts["names"][:NAMES]:
            table.add_row(Text(shortened(one["name"], 60)), *_times(one))
        console.print(table)
    console.print(
        Text(
            say(
                "Times of operators are those of the runtime's profiler, which costs time itself: they show where the "
                "difference is. How large it is, the pairs say."
            ),
            style="dim",
        )
    )


def summary(facts: Mapping[str, Any]) -> str:
    """How many operators there are on both sides, and of which types there are more or fewer; or why not."""
    if "why" in facts:
        return f"Operators: {facts['why']}"
    return f"{facts['base']} {ARROW} {facts['candidate']} operators{_changed(facts['types'])}"


def _changed(types: Sequence[Mapping[str, Any]]) -> str:
    """The types of which there are more or fewer, the largest change first."""
    changed = sorted((one for one in types if one["base"] != one["candidate"]), key=_by_count)
    listed = ", ".join(f"{one['type']} {one['base']} {ARROW} {one['candidate']}" for one in changed[:TYPES])
    return f": {listed}" if listed else ", of each type as many"


def _by_count(one: Mapping[str, Any]) -> int:
    return -abs(int(one["candidate"]) - int(one["base"]))


def _table(say: Callable[[str], str], first: str, counts: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(Text(say(first)), overflow="fold")
    for title in (*counts, "base ms", "candidate ms", "difference", "share"):
        table.add_column(Text(say(title)), justify="right")
    return table


def _times(one: Mapping[str, Any]) -> tuple[str, str, str, str]:
    share = MISSING if one["share"] is None else f"{number(100 * one['share'], 0)} %"
    return number(one["base_ms"], 3), number(one["candidate_ms"], 3), number(one["ms"], 3, sign=True), share

"""Verdicts on the terminal: how many rest on what, then every claim with its verdict and the words behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text as Line

from bench.decide.claims.evaluate import Judged, counts
from bench.decide.claims.lints import Lint
from bench.decide.claims.verdicts import GROUPS, NAMES, Kind, Verdict
from bench.words.text import Text

Language = Literal["en", "zh"]

STYLES = {
    Verdict.SUPPORTED: "green",
    Verdict.PARTLY_SUPPORTED: "green",
    Verdict.REFUTED: "red",
    Verdict.MIXED: "yellow",
    Verdict.INDICATED_FOR: "dim green",
    Verdict.INDICATED_AGAINST: "dim red",
    Verdict.INCONCLUSIVE: "cyan",
    Verdict.UNTESTED_HERE: "blue",
    Verdict.NOT_MEASURABLE: "dim",
    Verdict.STALE: "magenta",
}
BASES: dict[Kind | None, Text] = {
    Kind.MEASURED: Text(en="By measurement", zh="依据测量"),
    Kind.PROXY: Text(en="By proxy only", zh="仅依据替代指标"),
    None: Text(en="Open", zh="未定"),
}
REMARKS = Text(en="What a reader of those tables stumbles over", zh="这些表格中值得怀疑之处")
COLUMNS = (Text(en="Statement", zh="陈述"), Text(en="Verdict", zh="结论"), Text(en="Because", zh="依据"))
TITLES = {
    "measured": Text(en="Statements of the guide, by measurement", zh="指南中的陈述：依据测量"),
    "published": Text(en="The same, by tables published elsewhere", zh="同样的陈述：依据别处已公布的数据"),
}


def print_verdicts(judged: Sequence[Judged], language: Language, console: Console) -> None:
    """Print a table of claims and the counts for each origin.  Reasons are shown as text, never as markup."""
    for origin, title in TITLES.items():
        group = [one for one in judged if one.origin == origin]
        if not group:
            continue
        table = Table(title=getattr(title, language), title_justify="left")
        for column in COLUMNS:
            table.add_column(getattr(column, language), overflow="fold")
        for one in group:
            verdict = one.verdict.verdict
            name = Line(getattr(NAMES[verdict], language), style=STYLES[verdict])
            table.add_row(Line(one.claim.id), name, Line(getattr(one.verdict.reason, language)))
        console.print(table)
        for line in _counted(group, language):
            console.print(Line(line))
    for one in judged:
        for find in one.finds:
            console.print(Line(f"! {one.claim.id}: {getattr(find, language)}"))


def print_lints(lints: Sequence[Lint], language: Language, console: Console) -> None:
    """Print what the lints of published tables found, a line each."""
    if lints:
        console.print(Line(f"\n{getattr(REMARKS, language)}: {len(lints)}"))
    for one in lints:
        console.print(Line(f"  {one.rule}: {getattr(one.text, language)}"))


def _counted(judged: Sequence[Judged], language: Language) -> list[str]:
    """A line per basis: how many verdicts rest on it, and which."""
    numbers = counts(judged)
    lines = []
    for kind, verdicts in GROUPS.items():
        parts = ", ".join(f"{getattr(NAMES[verdict], language)} {numbers[verdict]}" for verdict in verdicts)
        lines.append(f"{getattr(BASES[kind], language)} {sum(numbers[one] for one in verdicts)}: {parts}")
    return lines

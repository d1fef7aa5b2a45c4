"""What the gate's self-check came to, as tables for the terminal, for Markdown and for a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.decide import drops, selfcheck
from bench.decide.drops import Drop
from bench.decide.selfcheck import Condition, Estimate, Kind
from bench.stats.change import POWER
from bench.stats.nights import upper_bound
from bench.store import selfcheck as stored
from bench.words.numbers import MISSING, count, interval, listing, number

_SHOWN = (0.01, 0.02, 0.03, 0.05, 0.1)
"""Slowdowns of the curve that a table has columns for."""


@dataclass(frozen=True)
class Sheet:
    """A table with what must be known to read it."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def sheets(facts: Mapping[str, Any]) -> list[Sheet]:
    """The tables of a self-check, from the facts that its file holds; empty before there is enough to say anything."""
    found = [
        sheet
        for one in selfcheck.from_json(facts.get("conditions", []))
        for sheet in (_alarms(one), _power(one), _doses(one), _versions(one))
        if sheet.rows
    ]
    score = facts.get("accuracy")
    if score:
        found.append(_drops(drops.from_json(score["drops"]), score))
    if facts.get("size"):
        found.append(_sizes(facts["size"]))
    return found


def said(sheet: Sheet, say: Callable[[str], str]) -> Sheet:
    """A table in the words that `say` makes of ours."""
    rows = tuple(tuple(map(say, row)) for row in sheet.rows)
    return Sheet(say(sheet.title), tuple(map(say, sheet.header)), rows, say(sheet.note))


def document(folder: Path) -> str:
    """The self-checks in a folder as Markdown, a section for each kind of machine.  Raises StoreError."""
    parts = []
    for path in stored.files(folder):
        pairs, facts = stored.read(path)
        days = f"from {min(pairs.session)[:10]} to {max(pairs.session)[:10]}"
        parts += [
            f"### {facts['machine']['cpu']}, {facts['machine']['cpu_cores_logical']} CPUs",
            f"{len(pairs)} pairs {days}, of the sweep {facts['sweep']} and the model {facts['model']}.",
            as_markdown(sheets(facts)),
        ]
    return "\n\n".join(parts or ["No self-check is recorded yet."])


def print_sheets(found: Sequence[Sheet], console: Console) -> None:
    """Print tables.  Nothing in them is markup."""
    for sheet in found:
        table = Table(box=None, pad_edge=False, header_style="bold", title=Text(sheet.title), title_justify="left")
        for place, title in enumerate(sheet.header):
            table.add_column(Text(title), justify="right" if place else "left", overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(Text, row))
        console.print(table)
        console.print(Text(sheet.note, style="dim"))
        console.print()


def as_markdown(found: Sequence[Sheet]) -> str:
    """The tables as Markdown, each below a title in bold."""
    parts = []
    for sheet in found:
        lines = [
            f"| {' | '.join(sheet.header)} |",
            f"|---|{'---:|' * (len(sheet.header) - 1)}",
            *(f"| {' | '.join(row)} |" for row in sheet.rows),
        ]
        parts += [f"**{sheet.title}**", "\n".join(lines), sheet.note]
    return "\n\n".join(parts)


def _alarms(one: Condition) -> Sheet:
    rows = [
        (
            kind.cell,
            str(kind.itself.pairs),
            *_ratio(kind.itself),
            f"{number(kind.seconds, 1)} s",
            f"{kind.alarms} of {kind.nights}",
            str(kind.comparisons),
            _percent(kind.bound, 1),
        )
        for kind in one.kinds
    ]
    by_metric = [f"{alarms} of {metric}" for metric, alarms in one.by_metric.items() if alarms]
    borrowed = f" {count(len(one.borrowed), 'cell')} without pairs of their own drew from another's." * bool(
        one.borrowed
    )
    return Sheet(
        f"False alarms: a cell against itself{_condition(one)}",
        ("cell", "pairs", "ratio", "95 % interval", "sd", "a pair", "false alarms", "comparisons", "upper bound"),
        tuple(rows),
        f"Nights of {number(one.minutes, 0)} minutes for all {count(one.cells, 'cell')}, resampled from the stored "
        f"pairs and decided by the gate itself: {one.alarms} of {one.nights} nights had a false alarm "
        f"({listing(by_metric) if by_metric else 'none of any metric'}), which puts their share below "
        f"{_percent(upper_bound(one.alarms, one.nights), 1)} (95 %) as far as these pairs stand for others. They "
        f"suffice for {count(one.comparisons, 'comparison')} that share none; on these alone rest the bounds of the "
        f"table and that of {_percent(one.bound, 0)} on nights with any false alarm.{borrowed}",
    )


def _power(one: Condition) -> Sheet:
    rows = [
        (
            kind.cell,
            *(_percent(_at(kind, dose), 0) for dose in _SHOWN),
            f"more than {_percent(kind.power[-1][0], 1)}" if kind.found is None else _percent(kind.found, 1),
        )
        for kind in one.kinds
    ]
    return Sheet(
        f"Power: share of nights in which a slowdown of a cell is found and confirmed{_condition(one)}",
        ("cell", *(_percent(dose, 0) for dose in _SHOWN), f"found in {POWER:.0%}"),
        tuple(rows),
        f"The margin is {_percent(one.margin, 1)}. A slowdown is added to pairs of the cell against itself; the others "
        "of the night are unchanged. The last column is the smallest slowdown that 95 of 100 nights found.",
    )


def _doses(one: Condition) -> Sheet:
    rows = [
        (
            dose.cell,
            _percent(dose.dose, 0),
            str(dose.measured.pairs),
            *_ratio(dose.measured)[:2],
            "yes" if dose.holds else "no",
        )
        for dose in one.doses
    ]
    return Sheet(
        f"Slowdowns that were really planted{_condition(one)}",
        ("cell", "planted", "pairs", "ratio", "95 % interval", "as planted"),
        tuple(rows),
        "Every inference of the candidate was followed by so much more work. As planted: the interval holds 1 + the "
        "dose, at a level that all doses together keep (Bonferroni, 5 %).",
    )


def _versions(one: Condition) -> Sheet:
    rows = [
        (
            f"{two.cell}: {two.base} to {two.candidate.partition('==')[2] or two.candidate}",
            two.role,
            str(two.measured.pairs),
            *_ratio(two.measured)[:2],
            MISSING if two.red is None else _percent(two.red, 0),
            MISSING if two.spread is None else _percent(two.spread, 2),
        )
        for two in one.versions
    ]
    supported = (
        ""
        if one.spread is None
        else f" The margin that placebos support is {_percent(one.spread, 2)}: the 99th percentile of comparisons as "
        "long as a night's."
    )
    return Sheet(
        f"Other versions of a package{_condition(one)}",
        ("versions", "role", "pairs", "ratio", "95 % interval", "nights red", "99 % stay within"),
        tuple(rows),
        "A placebo should differ in nothing, a positive is slower, a control lies beside it and should not be."
        + supported,
    )


def _drops(found: Sequence[Drop], score: Mapping[str, Any]) -> Sheet:
    sizes = list(dict.fromkeys(one.images for one in found))
    shares = {(one.drop, one.images): one.found for one in found}
    every = list(dict.fromkeys(one.drop for one in found))
    rows = []
    for drop in every:
        needed = drops.needed(found, drop)
        fewest = f"more than {max(sizes)}" if needed is None else str(needed)
        rows.append((number(drop, 3), *(_percent(shares[drop, size], 0) for size in sizes), fewest))
    return Sheet(
        "Planted drops of mAP50-95, share found",
        ("drop", *(f"{size} images" for size in sizes), f"images for {POWER:.0%}"),
        tuple(rows),
        f"True positives of {score['cell']} are missed until the mAP of {number(score['map'], 3)} over all "
        f"{score['images']} images has fallen by so much; {found[0].draws} draws each of images and of what is missed. "
        f"Found: the 95 % interval of the paired bootstrap lies below the margin of {number(score['margin'], 3)}.",
    )


def _sizes(size: Mapping[str, Any]) -> Sheet:
    return Sheet(
        "Planted growth of artifacts",
        ("growth", "artifacts", "found"),
        ((_percent(size["growth"], 1), str(size["artifacts"]), str(size["found"])),),
        "Sizes are compared exactly: a growth above the margin is always found.",
    )


def _at(kind: Kind, dose: float) -> float:
    """Share of the curve at a dose; above its end every night found it."""
    return dict(kind.power).get(dose, 1.0)


def _ratio(found: Estimate) -> tuple[str, str, str]:
    return (
        number(found.ratio, 4),
        interval(found.low, found.high, 4) or MISSING,
        MISSING if found.sd is None else _percent(found.sd, 2),
    )


def _condition(one: Condition) -> str:
    return f" ({one.pages} pages{', other CPUs busy' if one.busy else ''})"


def _percent(share: float, digits: int) -> str:
    return f"{number(100 * share, digits)} %"

"""A check in words and figures: on the terminal, as Markdown for a step summary, as facts for JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.decide.gate import Line, Verdict
from bench.grid.tolerances import SCORE
from bench.report.operators import print_operators, summary
from bench.words.locale import Locale
from bench.words.markdown import escaped
from bench.words.messages import messages
from bench.words.numbers import MISSING, interval, number

_ORDER = (Verdict.WORSE, Verdict.UNDECIDED, Verdict.INCOMPARABLE, Verdict.BETTER, Verdict.SAME, Verdict.UNCHANGED)
_STYLES = {Verdict.WORSE: "bold red", Verdict.BETTER: "green", Verdict.UNDECIDED: "yellow"}
COLUMNS = ("cell", "metric", "verdict", "base", "candidate", "change", "allowed", "why")
_BYTES = ("size_bytes", "env_bytes", "peak_rss_bytes")


def headline(facts: Mapping[str, Any], t: Locale) -> str:
    """The answer in a sentence."""
    counts = facts["counts"]
    told = t("separator").join(
        t("check.count", n=counts[verdict], verdict=t(f"check.verdict.{verdict}"))
        for verdict in _ORDER
        if counts.get(verdict)
    )
    answer, against = "regressed" if facts["regressed"] else "fine", messages(t.language)(facts["against"])
    return t(f"check.{answer}", against=against, told=told or t("check.nothing"))


def facts_of(lines: Sequence[Line], against: str, **beside: Any) -> dict[str, Any]:
    """A check, ready for JSON: its lines, how many of each verdict, and what else is to be kept."""
    counts = {verdict.value: sum(line.verdict is verdict for line in lines) for verdict in Verdict}
    return {
        "against": against,
        "regressed": counts[Verdict.WORSE] > 0,
        "counts": counts,
        "lines": [_as_json(line) for line in ordered(lines)],
        **beside,
    }


def ordered(lines: Iterable[Line]) -> list[Line]:
    """Lines with the worst first."""
    return sorted(lines, key=lambda line: (_ORDER.index(line.verdict), line.cell))


def titles(t: Locale) -> tuple[str, ...]:
    """What `COLUMNS` are called."""
    return tuple(t(f"check.column.{name}") for name in COLUMNS)


def rows(facts: Mapping[str, Any], t: Locale, *, everything: bool = False) -> list[tuple[str, ...]]:
    """Texts of the table, by `COLUMNS`; what is the same only where `everything` is asked for."""
    name = naming(facts)
    return [_row(line, name, t) for line in _told(facts, everything=everything)]


def print_check(facts: Mapping[str, Any], console: Console, t: Locale, *, everything: bool = False) -> None:
    """Print the answer and a table, regressions first, and why below it.  Nothing in it is markup."""
    console.print(Text(headline(facts, t), style="bold red" if facts["regressed"] else "bold"))
    lines, shown = _told(facts, everything=everything), rows(facts, t, everything=everything)
    if shown:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in titles(t)[: COLUMNS.index("allowed")]:
            table.add_column(Text(title), overflow="fold")
        for line, row in zip(lines, shown, strict=True):
            style = _STYLES.get(Verdict(line["verdict"]), "")
            table.add_row(*(Text(text) for text in row[: len(table.columns)]), style=style)
        console.print(table)
    for cell, metric, *_rest, why in shown:
        if why:
            console.print(Text(t("check.line", cell=cell, metric=metric, why=why), style="dim"))
    name, say = naming(facts), messages(t.language)
    for cell, operators in facts["operators"].items():
        console.print(Text(name(cell), style="bold"))
        print_operators(operators, console, say)
    for note in facts["notes"]:
        console.print(Text(say(note), style="dim"))


def markdown(facts: Mapping[str, Any], t: Locale) -> str:
    """The same as Markdown, every line of it in a fold."""
    say, parts = messages(t.language), [f"### {escaped(headline(facts, t))}", ""]
    loud = rows(facts, t)
    if loud:
        parts += [*_table(loud, t), ""]
    name = naming(facts)
    for cell, operators in facts["operators"].items():
        parts.append(f"{name(cell)}{t('colon')}{escaped(say(summary(operators)))}  ")
    parts += [f"{escaped(say(note))}  " for note in facts["notes"]]
    every = _table(rows(facts, t, everything=True), t)
    parts += ["", f"<details><summary>{t('check.every')}</summary>", "", *every, ""]
    return "\n".join([*parts, "</details>", ""])


def naming(facts: Mapping[str, Any]) -> Callable[[str], str]:
    """How the cells of a check are called: `short`, with their model where there are several."""
    several = len({line["cell"].partition("/")[0] for line in facts["lines"]}) > 1
    return partial(short, model=several)


def short(cell_id: str, *, model: bool = False) -> str:
    """A cell's id as people write it: without model, and without the batch of one and the one thread."""
    kept = cell_id if model else cell_id.partition("/")[2] or cell_id
    return re.sub(r"-(b1|t1)(?=-|$)", "", kept)


def _told(facts: Mapping[str, Any], *, everything: bool) -> list[Mapping[str, Any]]:
    """The lines that are shown; what is the same only where `everything` is asked for."""
    quiet = () if everything else (Verdict.SAME, Verdict.UNCHANGED)
    return [line for line in facts["lines"] if line["verdict"] not in quiet]


def _table(shown: Sequence[tuple[str, ...]], t: Locale) -> list[str]:
    lines = [f"| {' | '.join(titles(t))} |", "|" + "---|" * len(COLUMNS)]
    return lines + [f"| {' | '.join(escaped(text) for text in row)} |" for row in shown]


def _row(line: Mapping[str, Any], name: Callable[[str], str], t: Locale) -> tuple[str, ...]:
    metric = line["metric"]
    return (
        name(line["cell"]),
        metric,
        t(f"check.verdict.{line['verdict']}"),
        _figure(line["base"], metric),
        _figure(line["candidate"], metric),
        _change(line, metric),
        MISSING if line["margin"] is None else _share(line["margin"], metric),
        _why(line, t),
    )


def _why(line: Mapping[str, Any], t: Locale) -> str:
    why = messages(t.language)(str(line["why"]))
    if line["verdict"] == Verdict.UNDECIDED and line["visible"] is not None:
        seen = t("check.could", share=f"{100 * line['visible']:.1f}")
        return t("check.because", why=why, seen=seen) if why else seen
    return why


def _figure(value: str | float | None, metric: str) -> str:
    if value is None or isinstance(value, str):
        return value or MISSING
    if metric in _BYTES:
        return f"{number(value / 1e6, 2)} MB"
    return number(value, 4) if metric == SCORE else f"{number(value, 2)} ms"


def _change(line: Mapping[str, Any], metric: str) -> str:
    if line["change"] is None:
        return MISSING
    digits = 4 if metric == SCORE else 3
    value, low, high = (line["change"][key] for key in ("value", "low", "high"))
    shown = number(value, digits)
    return shown if low == high == value or low is None else f"{shown} {interval(low, high, digits)}"


def _share(margin: float, metric: str) -> str:
    return number(margin, 3) if metric == SCORE else f"{number(100 * margin, 1)} %"


def _as_json(line: Line) -> dict[str, Any]:
    change = line.change
    return {
        "cell": line.cell,
        "metric": line.metric,
        "verdict": line.verdict.value,
        "base": line.base,
        "candidate": line.candidate,
        "change": None if change is None else {"value": change.value, "low": change.low, "high": change.high},
        "margin": line.margin,
        "visible": line.visible,
        "why": line.why,
    }

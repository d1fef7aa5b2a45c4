"""A recommendation in words, on the terminal and as JSON.

The panel of the report puts the same sentences together (`reports/templates/recommend.js`), from the same texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.text import Text as Line

from bench.decide.deploy.candidates import Field, Passed
from bench.decide.deploy.front import GAIN, front
from bench.decide.deploy.recommend import (
    FRONT,
    QUANTITIES,
    Candidate,
    Choice,
    Figure,
    Outcome,
    Recommendation,
    Standing,
)
from bench.stats import Interval
from bench.words.fitted import Column, print_fitted, print_folded
from bench.words.locale import Language, Locale, texts
from bench.words.messages import messages
from bench.words.numbers import MISSING, interval, number

_DROPPED = {"latency": 0, "throughput": 5, "time": 3, "loss": 0, "map": 6, "size": 0, "memory": 4, "packages": 7}
"""Columns of figures in their order, with how soon each is left out on a narrow terminal; 0 is never."""
CAVEATS = ("place", "yardstick", "elsewhere", "time", "reference", "ties", "accuracy", "ends", "footprint")


def words(language: Language) -> Locale:
    """The texts of a language.  Raises UsageError when the files of the two languages differ in their keys."""
    return texts("recommend", language)


def shown(name: str, figure: Figure | None) -> str:
    """A figure with its interval and unit: `0.544 [0.525, 0.567]`, `10.74 MB`; an en dash when there is none."""
    if figure is None:
        return MISSING
    quantity = QUANTITIES[name]
    text = number(figure.value, quantity.digits)
    if quantity.unit:
        return f"{text}\N{NO-BREAK SPACE}{quantity.unit}"
    exact = figure.low == figure.value == figure.high
    return text if exact else f"{text} {interval(figure.low, figure.high, quantity.digits)}".strip()


def times(found: Interval) -> str:
    """The time of one over that of another, `1.045 [1.031, 1.060]`, to as many decimals as times have."""
    digits = QUANTITIES["time"].digits
    return f"{number(found.value, digits)} {interval(found.low, found.high, digits)}".strip()


def limit(value: float) -> str:
    """A limit as its user wrote it: `20`, `0.55`."""
    return repr(value).removesuffix(".0")


def reasons(choice: Choice, found: Recommendation, locale: Locale, names: Mapping[str, str]) -> tuple[str, ...]:
    """Why a choice stands where it does, a clause each.  `names` gives each cell id the name it is shown by."""
    told = []
    for name, wanted in found.limits.items():
        outcome, figure = choice.held[name], choice.candidate.figures[name]
        key = _clause(choice.standing, outcome, name, figure)
        if key:
            gaps = {"quantity": locale(f"quantity.{name}"), "figure": shown(name, figure), "limit": limit(wanted)}
            told.append(locale(key, **gaps))
    if choice.standing is Standing.POSSIBLY and choice.candidate.time.high is None:
        told.append(locale("why.unranked"))
    if choice.standing is not Standing.MEETS:
        return tuple(told)
    if choice.behind is not None:
        best = found.choices[0].candidate.cell_id
        told.append(locale("why.behind", figure=times(choice.behind), option=names[best]))
    if choice.ties:
        told.append(locale("why.tie", options=_list(locale, (names[one] for one in choice.ties))))
    if choice.on_front:
        told.append(locale("why.front"))
    else:
        better = _list(locale, (locale(f"better.{name}") for name in FRONT if name in choice.better_in))
        told.append(locale("why.beaten", option=names[choice.beaten_by], quantities=better))
    return tuple(told)


def summary(found: Recommendation, locale: Locale, names: Mapping[str, str]) -> tuple[str, ...]:
    """The answer in one or a few sentences."""
    meets = found.of(Standing.MEETS)
    if meets:
        first = meets[0]
        key = "single" if len(meets) == 1 else "tied" if first.ties else "alone"
        return (
            locale(
                f"summary.{key}",
                option=names[first.candidate.cell_id],
                options=_list(locale, (names[one] for one in first.ties)),
            ),
        )
    told = [locale("summary.nothing")]
    possible = found.of(Standing.POSSIBLY)
    if possible:
        told.append(
            locale("summary.possible", options=_list(locale, (names[one.candidate.cell_id] for one in possible)))
        )
    worst = found.excluding
    if worst is not None:
        gaps = {"quantity": locale(f"quantity.{worst.quantity}"), "count": worst.count, "total": len(found.choices)}
        if not worst.nearest:
            return (*told, locale("summary.excluding_unmeasured", **gaps))
        nearest = next(one.candidate for one in found.choices if one.candidate.cell_id == worst.nearest)
        figure = shown(worst.quantity, nearest.figures[worst.quantity])
        told.append(locale("summary.excluding", option=names[worst.nearest], figure=figure, **gaps))
    return tuple(told)


def caveats(field: Field, locale: Locale) -> tuple[str, ...]:
    """What the ranking holds for, and what it cannot know."""
    _, _, batch, target, threads = field.point
    gaps = {
        "model": _list(locale, field.models), "imgsz": _list(locale, map(str, field.sizes)),
        "batch": batch, "target": target, "threads": locale.count("threads", threads),
        "machine": field.machine or MISSING, "images": field.images, "yardstick": field.yardstick,
    }  # fmt: skip
    error = field.reference_error
    left_out = {"reference": error is None, "yardstick": not field.several}
    told = [key for key in CAVEATS if not left_out.get(key)]
    return tuple(locale(f"caveat.{key}", error=number(100 * (error or 0), 1), **gaps) for key in told)


def why_passed(one: Passed, locale: Locale) -> str:
    """Why a cell could not be considered."""
    status, say = texts("terminal", locale.language)(f"status.{one.status}"), messages(locale.language)
    return f"{status}{locale('colon')}{say(' '.join(one.reason.split()))}"


def names_of(field: Field, locale: Locale) -> dict[str, str]:
    """The name of every candidate by cell id; options outside the guide are marked."""
    return {
        one.cell_id: one.name if one.in_guide else f"{one.name} ({locale('panel.outside')})" for one in field.candidates
    }


def answer(field: Field, found: Recommendation, locale: Locale) -> tuple[str, ...]:
    """The answer for a scope, of one model and size or of several, in one or a few sentences."""
    names, climbed = names_of(field, locale), steps(field, found)
    if not climbed:
        return summary(found, locale, names)
    ends = {"fastest": names[climbed[0].cell_id], "accurate": names[climbed[-1].cell_id]}
    return (locale("summary.front" if len(climbed) > 1 else "summary.step", gain=limit(GAIN), **ends),)


def steps(field: Field, found: Recommendation) -> tuple[Candidate, ...]:
    """The front under the limits of a recommendation, where there are several models or sizes; else nothing."""
    return front(field.candidates, found.limits, field.pairs) if field.several else ()


def step_columns(locale: Locale, names: Mapping[str, str]) -> list[Column[Candidate]]:
    """Columns of the front: what is the answer from which time on, and how accurate, fast and large it is."""
    return [
        Column(locale("front.deploy"), lambda one: names[one.cell_id], right=False),
        Column(locale("front.from"), lambda one: shown("latency", one.figures["latency"])),
        Column(locale("column.map"), lambda one: shown("map", one.figures["map"]).partition(" ")[0]),
        Column(locale("front.behind"), lambda one: shown("loss", one.deficit), 2),
        Column(locale("column.throughput"), _per_second, 1),
        Column(locale("column.size"), lambda one: shown("size", one.figures["size"]), 3),
    ]


def step_rule(locale: Locale) -> str:
    """How the steps of the front came about."""
    return locale("front.rule", gain=limit(GAIN))


@dataclass(frozen=True)
class StepTable:
    """The front for a page: a heading, titles of columns, a line of texts per step, and notes on them.

    `options` has the id of each line's option.
    """

    heading: str
    titles: tuple[str, ...]
    options: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def step_table(field: Field, found: Recommendation, locale: Locale) -> StepTable | None:
    """The front of a scope; None where it is of one model and size, or nothing meets every limit."""
    climbed, columns = steps(field, found), step_columns(locale, names_of(field, locale))
    if not climbed:
        return None
    lines = tuple(tuple(column.text(one) for column in columns) for one in climbed)
    notes = (step_rule(locale), locale("caveat.yardstick", yardstick=field.yardstick))
    titles, options = tuple(column.title for column in columns), tuple(one.option for one in climbed)
    return StepTable(locale("front.heading"), titles, options, lines, notes)


def _per_second(one: Candidate) -> str:
    return shown("throughput", one.figures["throughput"]).partition(" ")[0]


def print_recommendation(field: Field, found: Recommendation, locale: Locale, console: Console) -> None:
    """Print the answer, a table of those that meet every limit, why each other one does not, and the caveats.

    Names and reasons are shown as text, never as markup.
    """
    names = names_of(field, locale)
    for sentence in answer(field, found, locale):
        print_folded(sentence, console, style="bold")
    climbed = steps(field, found)
    if climbed:
        console.print(Line(f"\n{locale('front.heading')}", style="bold"))
        print_fitted(
            climbed,
            step_columns(locale, names),
            console,
            name=lambda one: names[one.cell_id],
            left_out=lambda columns: locale("panel.left_out", columns=_list(locale, columns)),
            colon=locale("colon"),
        )
        print_folded(step_rule(locale), console, style="dim")
    meets = found.of(Standing.MEETS)
    if meets:
        console.print(Line(f"\n{locale('standing.meets')}", style="bold"))
        print_fitted(
            meets,
            _columns(locale, names),
            console,
            name=lambda choice: f"{choice.rank} {names[choice.candidate.cell_id]}",
            left_out=lambda columns: locale("panel.left_out", columns=_list(locale, columns)),
            colon=locale("colon"),
            named=2,
        )
    for standing in Standing:
        group = found.of(standing)
        if group:
            heading = "column.why" if standing is Standing.MEETS else f"standing.{standing}"
            console.print(Line(f"\n{locale(heading)}", style="bold"))
        for choice in group:
            because = locale("clauses").join(reasons(choice, found, locale, names))
            print_folded(f"  {names[choice.candidate.cell_id]}{locale('colon')}{because}", console)
    if field.passed:
        console.print(Line(f"\n{locale('standing.passed')}", style="bold"))
    for one in field.passed:
        print_folded(f"  {one.name}{locale('colon')}{why_passed(one, locale)}", console)
    console.print(Line(f"\n{locale('panel.caveats')}", style="bold"))
    for sentence in caveats(field, locale):
        print_folded(f"  {sentence}", console)


def as_json(run_id: str, field: Field, found: Recommendation, locale: Locale) -> str:
    """The same as JSON: figures as numbers with the ends of their intervals, and the words."""
    names = names_of(field, locale)
    _, _, batch, target, threads = field.point
    model, imgsz = (many if field.several else many[0] for many in (field.models, field.sizes))
    value: dict[str, Any] = {
        "run_id": run_id,
        "machine": field.machine,
        "scope": {"model": model, "imgsz": imgsz, "batch": batch, "target": target, "threads": threads},
        "limits": dict(found.limits),
        "summary": answer(field, found, locale),
        "front": [one.cell_id for one in steps(field, found)],
        "choices": [_choice(choice, found, locale, names) for choice in found.choices],
        "not_considered": [
            {"cell_id": one.cell_id, "name": one.name, "status": one.status, "reason": one.reason}
            for one in field.passed
        ],
        "caveats": caveats(field, locale),
    }
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _columns(locale: Locale, names: Mapping[str, str]) -> list[Column[Choice]]:
    """Columns of those that meet every limit; what a limit is seldom put on is left out first where it is narrow."""

    def figure(name: str, drop: int) -> Column[Choice]:
        return Column(locale(f"column.{name}"), lambda choice: shown(name, choice.candidate.figures[name]), drop)

    return [
        Column(locale("column.rank"), lambda choice: str(choice.rank)),
        Column(locale("column.option"), lambda choice: names[choice.candidate.cell_id], right=False),
        *(figure(name, drop) for name, drop in _DROPPED.items()),
    ]


def _choice(choice: Choice, found: Recommendation, locale: Locale, names: Mapping[str, str]) -> dict[str, Any]:
    candidate = choice.candidate
    return {
        "cell_id": candidate.cell_id,
        "name": names[candidate.cell_id],
        "option": candidate.option,
        "precision": candidate.precision,
        "in_guide": candidate.in_guide,
        "standing": choice.standing,
        "rank": choice.rank,
        "on_front": choice.on_front,
        "ties": choice.ties,
        "behind": None if choice.behind is None else asdict(choice.behind),
        "beaten_by": choice.beaten_by or None,
        "figures": {
            name: None if figure is None else {"value": figure.value, "low": figure.low, "high": figure.high}
            for name, figure in candidate.figures.items()
        },
        "limits": dict(choice.held),
        "why": reasons(choice, found, locale, names),
        "reproduce": candidate.reproduce,
    }


def _clause(standing: Standing, outcome: Outcome, name: str, figure: Figure | None) -> str:
    """Key of the clause that says how a limited figure stands, where that decided the choice's standing."""
    if standing is Standing.DROPPED and outcome is Outcome.UNKNOWN:
        return "why.unknown"
    if standing is Standing.DROPPED and outcome is Outcome.MISSED:
        return "why.above" if QUANTITIES[name].side == "at_most" else "why.below"
    if standing is Standing.POSSIBLY and outcome is Outcome.POSSIBLY:
        return "why.bare" if figure is None or figure.low is None else "why.possibly"
    return ""


def _list(locale: Locale, items: Iterable[str]) -> str:
    return locale("separator").join(items)

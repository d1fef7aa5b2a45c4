"""Checks that compare all options there are: who is first, whether anyone is faster, how far runtimes lie apart.

Only cells that were timed count: where a target is not timed, or drawn in software, `latency_ratio` is null.  Options
that were not timed beside them are named, and keep a statement about all options from being confirmed.  Whatever was
chosen as the fastest or slowest of several has an interval that holds for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import pandas as pd
from pydantic import PositiveFloat

from bench.decide.claims import gate
from bench.decide.claims.checks._common import (
    Bounded,
    Place,
    finding,
    missing,
    near,
    same_point,
    select,
    shown,
    subjects,
    untimed,
)
from bench.decide.claims.estimates import over_runs, time_ratio
from bench.decide.claims.statements import Claim, Scope
from bench.decide.claims.synthetic import paced, results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Verdict, chance, judge, simultaneous
from bench.decide.claims.whole import together
from bench.words.text import Text


class First(Bounded):
    """How close to the fastest still counts as first; 1 leaves no other option before it."""

    threshold: PositiveFloat = 1.0


def ranks_first(tables: Tables, claim: Claim, params: First) -> list[Finding]:
    """No other option with the same target and arithmetic is faster; of each option its fastest artifact counts.

    The figure is the speed over that of the fastest other option.  `scope.options` names the others; empty: all that
    the guide has.
    """
    option = claim.option

    def ranked() -> Iterator[tuple[Place, list[tuple[str, Estimate]]]]:
        rows = _compared(tables, option, params.scope)
        for _, group in _grouped(rows, lambda row: (*same_point(row), _arithmetic(row))):
            best = _fastest(group)
            if option in best and len(best) > 1:
                own = best.pop(option)
                others = ((name, time_ratio(tables, other, own)) for name, other in sorted(best.items()))
                yield Place.of(own), [(name, estimate) for name, estimate in others if estimate is not None]

    places: dict[Place, dict[str, list[Estimate]]] = {}
    for place, others in ranked():
        for name, estimate in others:
            places.setdefault(place, {}).setdefault(name, []).append(estimate)
    findings = []
    for place in sorted(places):
        known = {name: over_runs(estimates) for name, estimates in places[place].items()}
        rivals = {name: simultaneous(one, len(known)) for name, one in known.items()}
        nearest = min(rivals, key=lambda name: (rivals[name].value, name))
        rule = params.threshold
        parts = [
            (judge(near(rivals[name], "x"), rule, "at_least"), chance(known[name], rule)) for name in sorted(known)
        ]
        left = untimed(tables, place, _others(tables, params.scope, place.target))
        verdict = _open(together(parts), Verdict.SUPPORTED, left)
        figure, own, other = shown(rivals[nearest], "x"), tables.name(option), tables.name(nearest)
        text = Text(
            en=f"{own} is {figure} times as fast as {other}, the fastest of {len(rivals)} other option(s) there.",
            zh=f"{own} 的速度是 {other} 的 {figure} 倍；后者是该处其他 {len(rivals)} 个选项中最快的。",
        )
        text = _but(tables, text, left)
        findings.append(finding(tables, place, rivals[nearest], rule, "at_least", "x", text, verdict=verdict))
    return findings + missing(tables, claim, findings, [option], params.scope.targets, timed=True)


class Traded(Bounded):
    """Another option is faster: by more than `threshold`, and by no more than `at_most` where that is given."""

    threshold: PositiveFloat = 1.0
    at_most: PositiveFloat | None = None


def some_option_faster(tables: Tables, claim: Claim, params: Traded) -> list[Finding]:
    """At least one other option is faster than the claim's own, and the fastest is within `at_most` times its speed.

    `scope.options` names the others; empty: all that the guide has.
    """
    option = claim.option

    def fastest() -> Iterator[tuple[Place, tuple[str, int, Estimate]]]:
        rows = _compared(tables, option, params.scope)
        for _, group in _grouped(rows, same_point):
            best = _fastest(group)
            if option in best and len(best) > 1:
                own = best.pop(option)
                name = max(best, key=lambda other: (best[other].latency_ratio, other))
                if (found := time_ratio(tables, own, best[name])) is not None:
                    yield Place.of(own), (name, len(best), found)

    places: dict[Place, list[tuple[str, int, Estimate]]] = {}
    for place, found in fastest():
        places.setdefault(place, []).append(found)
    findings = []
    for place in sorted(places):
        many = max(number for _, number, _ in places[place])
        alone = over_runs([estimate for _, _, estimate in places[place]])
        estimate = simultaneous(alone, many)
        left = untimed(tables, place, _others(tables, params.scope, place.target))
        above = judge(near(estimate, "x"), params.threshold, "above"), _chosen(alone, params.threshold, many)
        parts = [_open(above, Verdict.REFUTED, left)]
        if params.at_most is not None:
            within = judge(near(estimate, "x"), params.at_most, "at_most"), _chosen(alone, params.at_most, many)
            parts.append(_open(within, Verdict.SUPPORTED, left))
        names = _by_run(tables.name(name) for name, _, _ in places[place])
        bound = params.at_most if params.at_most and parts[0][0] is Verdict.SUPPORTED else params.threshold
        figure = shown(estimate, "x")
        text = Text(
            en=f"The fastest other option, {names.en}, is {figure} times as fast as {tables.name(option)}.",
            zh=f"其他选项中最快的 {names.zh} 是 {tables.name(option)} 速度的 {figure} 倍。",
        )
        text = _but(tables, text, left)
        findings.append(finding(tables, place, estimate, bound, "above", "x", text, verdict=together(parts)))
    return findings + missing(tables, claim, findings, [option], params.scope.targets, timed=True)


class Spread(Bounded):
    """How many times as long as the fastest the slowest must take; `same_file`: only what read the very same file."""

    threshold: PositiveFloat
    same_file: bool = False


def depends_on_runtime(tables: Tables, claim: Claim, params: Spread) -> list[Finding]:
    """The same weights differ in speed by more than `threshold` between the runtimes in `scope.options`.

    The figure is the speed of the fastest over that of the slowest with one reference in one run, whatever target
    each of them ran on.  With `same_file` a runtime is compared with those that read the artifact it read, by its hash.
    """
    options = subjects(claim, params.scope)

    def together_in(row: Any) -> tuple[Any, ...]:
        return row.run_id, row.reference_id, row.precision, row.artifact_sha256 if params.same_file else ""

    places: dict[Place, list[tuple[Any, Any, int, Estimate]]] = {}
    rows = select(tables.cells, params.scope, options)
    for _, group in _grouped([row for row in rows if row.artifact_sha256 or not params.same_file], together_in):
        timed = [row for row in group if pd.notna(row.latency_ratio)]
        if len({(row.option, row.target) for row in timed}) > 1:
            slow, fast = (pick(timed, key=lambda row: row.latency_ratio) for pick in (min, max))
            if (found := time_ratio(tables, slow, fast)) is not None:
                places.setdefault(_anywhere(fast), []).append((fast, slow, len(timed), found))
    findings = []
    for place in sorted(places):
        many = max(number * (number - 1) // 2 for _, _, number, _ in places[place])
        alone = over_runs([estimate for *_, estimate in places[place]])
        estimate = simultaneous(alone, many)
        left = untimed(tables, place, options)
        fastest, slowest = (_names(tables, (one[side] for one in places[place])) for side in (0, 1))
        figure = shown(estimate, "x")
        text = Text(
            en=f"The fastest of the runtimes, {fastest.en}, is {figure} times as fast as the slowest, {slowest.en}.",
            zh=f"最快的运行时 {fastest.zh} 的速度是最慢的 {slowest.zh} 的 {figure} 倍。",
        )
        above = judge(near(estimate, "x"), params.threshold, "above"), _chosen(alone, params.threshold, many)
        verdict = _open(above, Verdict.REFUTED, left)
        text = _but(tables, text, left)
        findings.append(finding(tables, place, estimate, params.threshold, "above", "x", text, verdict=verdict))
    return findings + missing(tables, claim, findings, options, timed=True)


def _anywhere(row: Any) -> Place:
    return Place(row.machine, row.model, "", row.precision, "", int(row.imgsz), int(row.batch), int(row.threads))


def _names(tables: Tables, rows: Iterable[Any]) -> Text:
    return _by_run(f"{tables.name(row.option)} ({row.target})" for row in rows)


def _by_run(names: Iterable[str]) -> Text:
    """What each of several runs named, which may be different things."""
    found = sorted(set(names))
    if len(found) == 1:
        return Text(en=found[0], zh=found[0])
    return Text(en=f"{' or '.join(found)} by run", zh=f"{'、'.join(found)}（因运行而异）")


def _others(tables: Tables, scope: Scope, target: str) -> Iterable[str]:
    """Options that a statement about all of them is about: those of the scope, else all that the target has."""
    return scope.options or [name for name, targets in tables.words.options.items() if target in targets]


def _open(found: tuple[Verdict, float | None], unless: Verdict, left: list[str]) -> tuple[Verdict, float | None]:
    """A verdict with its chance; inconclusive instead of `unless` where options were not timed."""
    return (Verdict.INCONCLUSIVE, found[1]) if left and found[0] is unless else found


def _chosen(estimate: Estimate, threshold: float, many: int) -> float | None:
    """Chance of a figure that was chosen as the largest of `many` (Bonferroni)."""
    found = chance(estimate, threshold)
    return None if found is None else min(1.0, many * found)


def _but(tables: Tables, text: Text, left: list[str]) -> Text:
    """The same words, and which options were not timed."""
    if not left:
        return text
    names = ", ".join(tables.name(name) for name in left)
    return Text(en=f"{text.en} Not timed there: {names}.", zh=f"{text.zh}该处没有计时：{names}。")


def _compared(tables: Tables, option: str, scope: Scope) -> list[Any]:
    """Cells of the option and of those it is compared with: a guide says nothing of options that it does not name."""
    return select(tables.cells, scope, (option, *(scope.options or tables.words.options)))


def _arithmetic(row: Any) -> str:
    """Precision class: the arithmetic attested, so that no option wins by computing less precisely than another."""
    return str(row.compute or row.precision)


def _fastest(rows: Iterable[Any]) -> dict[str, Any]:
    """The fastest timed row of each option."""
    best: dict[str, Any] = {}
    for row in rows:
        timed = pd.notna(row.latency_ratio)
        if timed and (row.option not in best or row.latency_ratio > best[row.option].latency_ratio):
            best[row.option] = row
    return best


def _grouped(rows: list[Any], key: Any) -> Iterator[tuple[Any, list[Any]]]:
    for value, group in groupby(sorted(rows, key=key), key=key):
        yield value, list(group)


_FIRST = paced("pytorch", 80)

gate.register(
    "ranks_first",
    First,
    ranks_first,
    supports=results(_FIRST, paced("mnn", 66), paced("onnx", 40)),
    refutes=results(_FIRST, paced("mnn", 31), paced("onnx", 40)),
    wide=results(_FIRST, paced("mnn", 40.5, jitter=0.1), paced("onnx", 40)),
)
gate.register(
    "some_option_faster",
    Traded,
    some_option_faster,
    option="pytorch",
    at_most=1.5,
    supports=results(_FIRST, paced("mnn", 88), paced("onnx", 61)),
    refutes=results(_FIRST, paced("mnn", 88), paced("onnx", 40)),
    wide=results(_FIRST, paced("mnn", 88), paced("onnx", 79, jitter=0.1)),
)
gate.register(
    "depends_on_runtime",
    Spread,
    depends_on_runtime,
    threshold=1.2,
    scope={"options": ["onnx", "openvino"], "precisions": ["fp32"]},
    supports=results(_FIRST, paced("onnx", 80), paced("openvino", 40)),
    refutes=results(_FIRST, paced("onnx", 40), paced("openvino", 41)),
    wide=results(_FIRST, paced("onnx", 48, jitter=0.2), paced("openvino", 40)),
)

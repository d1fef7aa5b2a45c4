"""Checks that compare all options there are: who is first, whether anyone is faster, how far runtimes lie apart.

Only cells that were timed count: where a target is not timed, or drawn in software, `latency_ratio` is null.  Options
that were not timed beside them are named, and keep a statement about all options from being confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from pydantic import PositiveFloat

from bench.decide.claims import gate
from bench.decide.claims.checks._common import (
    Bounded,
    Place,
    finding,
    missing,
    same_point,
    select,
    shown,
    subjects,
    untimed,
)
from bench.decide.claims.estimates import latency_ratio, over_runs, quotient
from bench.decide.claims.registry import Claim, Scope
from bench.decide.claims.synthetic import cell, reference, results
from bench.decide.claims.tables import Tables
from bench.decide.claims.verdicts import Estimate, Finding, Verdict, every, judge
from bench.words.text import Text


class First(Bounded):
    """How close to the fastest still counts as first; 1 leaves no other option before it."""

    threshold: PositiveFloat = 1.0


def ranks_first(tables: Tables, claim: Claim, params: First) -> list[Finding]:
    """No other option with the same target and arithmetic is faster; of each option its fastest artifact counts.

    The figure is the speed over that of the fastest other option.  `scope.options` names the others; empty: all.
    """
    option = claim.option

    def ranked() -> Iterator[tuple[Place, list[tuple[str, Estimate]]]]:
        rows = select(tables.cells, params.scope, _with(option, params.scope))
        for _, group in _grouped(rows, lambda row: (*same_point(row), _arithmetic(row))):
            best = _fastest(tables, group)
            if option in best and len(best) > 1:
                own, ratio = best.pop(option)
                others = [(name, quotient(ratio, other)) for name, (_, other) in sorted(best.items())]
                yield Place.of(own), others

    places: dict[Place, dict[str, list[Estimate]]] = {}
    for place, others in ranked():
        for name, estimate in others:
            places.setdefault(place, {}).setdefault(name, []).append(estimate)
    findings = []
    for place in sorted(places):
        rivals = {name: over_runs(estimates) for name, estimates in places[place].items()}
        nearest = min(rivals, key=lambda name: (rivals[name].value, name))
        verdict = every(judge(estimate, params.threshold, "at_least") for estimate in rivals.values())
        left = untimed(tables, place, _others(tables, params.scope, place.target))
        verdict = _open(verdict, Verdict.SUPPORTED, left)
        figure, own, other = shown(rivals[nearest], "x"), tables.name(option), tables.name(nearest)
        text = Text(
            en=f"{own} is {figure} times as fast as {other}, the fastest of {len(rivals)} other option(s) there.",
            zh=f"{own} 的速度是 {other} 的 {figure} 倍；后者是该处其他 {len(rivals)} 个选项中最快的。",
        )
        text = _but(tables, text, left)
        findings.append(
            finding(tables, place, rivals[nearest], params.threshold, "at_least", "x", text, verdict=verdict)
        )
    return findings + missing(tables, claim, findings, [option], params.scope.targets, timed=True)


class Traded(Bounded):
    """Another option is faster: by more than `threshold`, and by no more than `at_most` where that is given."""

    threshold: PositiveFloat = 1.0
    at_most: PositiveFloat | None = None


def some_option_faster(tables: Tables, claim: Claim, params: Traded) -> list[Finding]:
    """At least one other option is faster than the claim's own, and the fastest is within `at_most` times its speed.

    `scope.options` names the others; empty: all.
    """
    option = claim.option

    def fastest() -> Iterator[tuple[Place, tuple[str, Estimate]]]:
        rows = select(tables.cells, params.scope, _with(option, params.scope))
        for _, group in _grouped(rows, same_point):
            best = _fastest(tables, group)
            if option in best and len(best) > 1:
                own, ratio = best.pop(option)
                name = max(best, key=lambda other: (best[other][1].value, other))
                yield Place.of(own), (name, quotient(best[name][1], ratio))

    places: dict[Place, list[tuple[str, Estimate]]] = {}
    for place, found in fastest():
        places.setdefault(place, []).append(found)
    findings = []
    for place in sorted(places):
        estimate = over_runs([estimate for _, estimate in places[place]])
        left = untimed(tables, place, _others(tables, params.scope, place.target))
        verdicts = [_open(judge(estimate, params.threshold, "above"), Verdict.REFUTED, left)]
        if params.at_most is not None:
            verdicts.append(_open(judge(estimate, params.at_most, "at_most"), Verdict.SUPPORTED, left))
        names = ", ".join(sorted({tables.name(name) for name, _ in places[place]}))
        bound = params.at_most if params.at_most and verdicts[0] is Verdict.SUPPORTED else params.threshold
        figure = shown(estimate, "x")
        text = Text(
            en=f"The fastest other option, {names}, is {figure} times as fast as {tables.name(option)}.",
            zh=f"其他选项中最快的 {names} 是 {tables.name(option)} 速度的 {figure} 倍。",
        )
        text = _but(tables, text, left)
        findings.append(finding(tables, place, estimate, bound, "above", "x", text, verdict=every(verdicts)))
    return findings + missing(tables, claim, findings, [option], params.scope.targets, timed=True)


def depends_on_runtime(tables: Tables, claim: Claim, params: Bounded) -> list[Finding]:
    """The same weights differ in speed by more than `threshold` between the runtimes in `scope.options`.

    The figure is the speed of the fastest over that of the slowest with one reference in one run, whatever target
    each of them ran on.
    """
    options = subjects(claim, params.scope)

    places: dict[Place, list[tuple[Any, Any, Estimate]]] = {}
    rows = select(tables.cells, params.scope, options)
    for _, group in _grouped(rows, lambda row: (row.run_id, row.reference_id, row.precision)):
        timed = [(ratio, row) for row in group if (ratio := latency_ratio(tables, row)) is not None]
        if len({(row.option, row.target) for _, row in timed}) > 1:
            slow, fast = (pick(timed, key=lambda pair: pair[0].value) for pick in (min, max))
            found = fast[1], slow[1], quotient(fast[0], slow[0])
            places.setdefault(_anywhere(fast[1]), []).append(found)
    findings = []
    for place in sorted(places):
        estimate = over_runs([estimate for _, _, estimate in places[place]])
        left = untimed(tables, place, options)
        fastest, slowest = (_names(tables, (one[side] for one in places[place])) for side in (0, 1))
        figure = shown(estimate, "x")
        text = Text(
            en=f"The fastest of the runtimes, {fastest}, is {figure} times as fast as the slowest, {slowest}.",
            zh=f"最快的运行时 {fastest} 的速度是最慢的 {slowest} 的 {figure} 倍。",
        )
        verdict = _open(judge(estimate, params.threshold, "above"), Verdict.REFUTED, left)
        text = _but(tables, text, left)
        findings.append(finding(tables, place, estimate, params.threshold, "above", "x", text, verdict=verdict))
    return findings + missing(tables, claim, findings, options, timed=True)


def _anywhere(row: Any) -> Place:
    return Place(row.machine, row.model, "", row.precision, "", int(row.imgsz), int(row.batch), int(row.threads))


def _names(tables: Tables, rows: Iterable[Any]) -> str:
    return ", ".join(sorted({tables.name(row.option) for row in rows}))


def _others(tables: Tables, scope: Scope, target: str) -> Iterable[str]:
    """Options that a statement about all of them is about: those of the scope, else all that the target has."""
    return scope.options or [name for name, targets in tables.words.options.items() if target in targets]


def _open(verdict: Verdict, unless: Verdict, left: list[str]) -> Verdict:
    """Inconclusive instead of `unless` where options were not timed."""
    return Verdict.INCONCLUSIVE if left and verdict is unless else verdict


def _but(tables: Tables, text: Text, left: list[str]) -> Text:
    """The same words, and which options were not timed."""
    if not left:
        return text
    names = ", ".join(tables.name(name) for name in left)
    return Text(en=f"{text.en} Not timed there: {names}.", zh=f"{text.zh}该处没有计时：{names}。")


def _with(option: str, scope: Scope) -> tuple[str, ...]:
    """The option and those it is compared with; empty: all there are."""
    return (option, *scope.options) if scope.options else ()


def _arithmetic(row: Any) -> str:
    """Precision class: the arithmetic attested, so that no option wins by computing less precisely than another."""
    return str(row.compute or row.precision)


def _fastest(tables: Tables, rows: Iterable[Any]) -> dict[str, tuple[Any, Estimate]]:
    """The fastest timed row of each option and its ratio."""
    best: dict[str, tuple[Any, Estimate]] = {}
    for row in rows:
        ratio = latency_ratio(tables, row)
        if ratio is not None and (row.option not in best or ratio.value > best[row.option][1].value):
            best[row.option] = row, ratio
    return best


def _grouped(rows: list[Any], key: Any) -> Iterator[tuple[Any, list[Any]]]:
    for value, group in groupby(sorted(rows, key=key), key=key):
        yield value, list(group)


gate.register(
    "ranks_first",
    First,
    ranks_first,
    supports=results(reference(), cell("mnn", ratio=(1.2, 1.1, 1.3)), cell("onnx", ratio=(2.0, 1.9, 2.1))),
    refutes=results(reference(), cell("mnn", ratio=(2.6, 2.5, 2.7)), cell("onnx", ratio=(2.0, 1.9, 2.1))),
    wide=results(reference(), cell("mnn", ratio=(2.0, 1.8, 2.2)), cell("onnx", ratio=(2.1, 1.9, 2.3))),
)
gate.register(
    "some_option_faster",
    Traded,
    some_option_faster,
    option="pytorch",
    at_most=1.5,
    supports=results(reference(), cell("mnn", ratio=(0.9, 0.8, 1.0)), cell("onnx", ratio=(1.3, 1.2, 1.4))),
    refutes=results(reference(), cell("mnn", ratio=(0.9, 0.8, 1.0)), cell("onnx", ratio=(2.0, 1.9, 2.1))),
    wide=results(reference(), cell("mnn", ratio=(0.9, 0.8, 1.0)), cell("onnx", ratio=(1.05, 0.95, 1.15))),
)
gate.register(
    "depends_on_runtime",
    Bounded,
    depends_on_runtime,
    threshold=1.2,
    scope={"options": ["onnx", "openvino"], "precisions": ["fp32"]},
    supports=results(reference(), cell("onnx", ratio=(1.0, 0.95, 1.05)), cell("openvino", ratio=(2.0, 1.9, 2.1))),
    refutes=results(reference(), cell("onnx", ratio=(2.0, 1.98, 2.02)), cell("openvino", ratio=(2.0, 1.98, 2.02))),
    wide=results(reference(), cell("onnx", ratio=(2.0, 1.7, 2.3)), cell("openvino", ratio=(2.4, 2.0, 2.8))),
)

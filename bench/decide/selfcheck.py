"""What the gate's own pairs say of it: false alarms, what it finds, and the margin that placebos support.

Pure over the pairs that `bench.store.selfcheck` keeps; the nights are those of `bench.decide.nights`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.decide import nights
from bench.decide.nights import Map, Series, Setting, Tally
from bench.grid.selfcheck import CONTROL, ITSELF, PLACEBO, PLANTED, POSITIVE, Night
from bench.measure.pairs import LATENCY
from bench.stats import nights as statistics
from bench.stats.allocation import PAIRS_MIN
from bench.stats.change import POWER, of_pairs
from bench.stats.contrast import Mean, mean

FALSE_ALARM = 0.05
"""Chance that any of the doses' intervals misses by chance; shared out among them (Bonferroni)."""
PLACEBO_QUANTILE = 0.99
CURVE = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
"""Slowdowns of the power curve; those above one that every night found are left out."""


@dataclass(frozen=True)
class Estimate:
    """A mean ratio, candidate over base, with its 95 % interval, from so many pairs; `sd` of a pair's log ratio."""

    pairs: int
    ratio: float
    low: float | None
    high: float | None
    sd: float | None


@dataclass(frozen=True)
class Kind:
    """A kind of cell: what its pairs are like against itself, its false alarms, and what is found of it.

    `alarms` of `nights` were red for the cell though nothing had changed; the bound on that rests on `comparisons`,
    which is how many independent ones the stored pairs suffice for.  `power` gives for slowdowns the share of nights
    that found them; `found` is the smallest that was found in 95 of 100, None where none was.
    """

    cell: str
    itself: Estimate
    seconds: float
    per_night: float
    nights: int
    alarms: int
    comparisons: int
    bound: float
    power: tuple[tuple[float, float], ...]
    found: float | None


@dataclass(frozen=True)
class Dose:
    """A slowdown that was really planted: its pairs' mean ratio, and whether its interval holds 1 + dose."""

    cell: str
    dose: float
    measured: Estimate
    holds: bool


@dataclass(frozen=True)
class Versions:
    """Two versions of a package: their mean ratio, and the share of nights in which the gate called the second slower.

    `spread` is, for a placebo, what 99 of 100 comparisons as long as a night's stay within, as a relative change.
    """

    role: str
    cell: str
    base: str
    candidate: str
    measured: Estimate
    red: float | None
    spread: float | None


@dataclass(frozen=True)
class Condition:
    """All of this with the other CPUs quiet, or busy.

    A night has `cells` cells, of which `borrowed` have no pairs of their own and draw from another's; `alarms` of
    `nights` had any red, in which nothing had changed.  `bound` is the upper bound on that share, from `comparisons`
    independent ones; `by_metric` counts the red nights of each metric.
    """

    busy: bool
    pages: str
    minutes: float
    cells: int
    borrowed: tuple[str, ...]
    nights: int
    alarms: int
    by_metric: Mapping[str, int]
    comparisons: int
    bound: float
    kinds: tuple[Kind, ...]
    doses: tuple[Dose, ...]
    versions: tuple[Versions, ...]
    margin: float
    spread: float | None


def judge(
    pairs: pd.DataFrame,
    cells: Sequence[str],
    margins: Mapping[str, float],
    plan: Night,
    spread: Map = map,
) -> list[Condition]:
    """What the pairs say, for each condition in which there are pairs of cells against themselves.

    `cells` are those of a night, by id; one without pairs draws from a kind of the same option, else from the noisiest.
    `margins` are the gate's, by metric.  `spread` is `map`, or that of an executor: nights are drawn one by one.
    """
    found = []
    for (busy, pages), rows in pairs.groupby(["busy", "pages"]):
        kinds = _series(rows, ITSELF)
        if kinds:
            found.append(_condition(rows, kinds, cells, margins, plan, spread, busy=bool(busy), pages=str(pages)))
    return found


def faults(conditions: Sequence[Condition]) -> list[str]:
    """What speaks against the gate, in words: doses that are not what was planted, positives that it does not find."""
    found = []
    for one in conditions:
        found += [
            f"{dose.cell}: a planted slowdown of {dose.dose:.0%} was measured as {dose.measured.ratio - 1:.2%}"
            for dose in one.doses
            if not dose.holds
        ]
        found += [
            f"{two.cell}: {two.base} to {two.candidate} was found in {two.red:.0%} of the nights"
            for two in one.versions
            if two.role == POSITIVE and two.red is not None and two.red < POWER
        ]
    return found


def as_json(conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Conditions, ready for JSON."""
    return [asdict(one) for one in conditions]


def from_json(stored: Sequence[Mapping[str, Any]]) -> list[Condition]:
    """The conditions that `as_json` gave."""
    return [
        Condition(
            **{
                **one,
                "borrowed": tuple(one["borrowed"]),
                "kinds": tuple(_kind(kind) for kind in one["kinds"]),
                "doses": tuple(Dose(**{**dose, "measured": Estimate(**dose["measured"])}) for dose in one["doses"]),
                "versions": tuple(
                    Versions(**{**two, "measured": Estimate(**two["measured"])}) for two in one["versions"]
                ),
            }
        )
        for one in stored
    ]


def _kind(stored: Mapping[str, Any]) -> Kind:
    power = tuple((float(dose), float(share)) for dose, share in stored["power"])
    return Kind(**{**stored, "itself": Estimate(**stored["itself"]), "power": power})


def _series(rows: pd.DataFrame, role: str) -> dict[str, Series]:
    """Series of cells of a role that have enough pairs for a comparison."""
    groups = rows[rows.role == role].groupby("cell", sort=False)
    return {str(cell): Series.of(group, equal=role == ITSELF) for cell, group in groups if len(group) >= PAIRS_MIN}


def _condition(
    rows: pd.DataFrame,
    kinds: Mapping[str, Series],
    cells: Sequence[str],
    margins: Mapping[str, float],
    plan: Night,
    spread: Map,
    *,
    busy: bool,
    pages: str,
) -> Condition:
    options = dict(zip(rows.cell, rows.option, strict=True))
    lenders = {cell: _lender(cell, kinds, options) for cell in dict.fromkeys([*cells, *kinds])}
    series = {cell: kinds[lender] for cell, lender in lenders.items()}
    quickest = min(series.values(), key=lambda one: float(one.seconds.mean()))
    night = Setting(series, quickest, margins, plan.minutes, {})
    quiet = nights.nights(night, plan.nights, spread)
    judged = [_judged(cell, night, quiet, plan.nights, spread) for cell in kinds]
    comparisons = sum(kind.comparisons for kind in judged)
    # Alarms per comparison, over all cells of all nights; the bound is that of as many as the stored pairs support.
    rate = sum(bool(red) for tally in quiet for red in tally.red.values()) / (len(quiet) * len(lenders))
    bound = statistics.any_of(statistics.upper_bound(rate * comparisons, comparisons), len(lenders))
    versions = _versions(rows, night, quiet, plan.nights, spread)
    spreads = [two.spread for two in versions if two.spread is not None]
    return Condition(
        busy=busy,
        pages=pages,
        minutes=plan.minutes,
        cells=len(lenders),
        borrowed=tuple(cell for cell, lender in lenders.items() if cell != lender),
        nights=len(quiet),
        alarms=sum(any(tally.red.values()) for tally in quiet),
        by_metric={
            metric: sum(any(metric in red for red in tally.red.values()) for tally in quiet) for metric in margins
        },
        comparisons=comparisons,
        bound=bound,
        kinds=tuple(judged),
        doses=tuple(_doses(rows)),
        versions=tuple(versions),
        margin=margins[LATENCY],
        spread=max(spreads, default=None),
    )


def _lender(cell: str, kinds: Mapping[str, Series], options: Mapping[str, str]) -> str:
    """Whose pairs a cell draws from: its own, those of the noisiest kind of its option, or of the noisiest at all."""
    if cell in kinds:
        return cell
    noisiest = sorted(kinds, key=lambda name: float(np.std(kinds[name].logs[LATENCY])), reverse=True)
    return next((name for name in noisiest if cell.startswith(f"{options[name]}-")), noisiest[0])


def _judged(cell: str, night: Setting, quiet: Sequence[Tally], number: int, spread: Map) -> Kind:
    series = night.cells[cell]
    per_night = float(np.mean([tally.pairs[cell] for tally in quiet]))
    alarms = sum(bool(tally.red[cell]) for tally in quiet)
    comparisons = int(len(series) / per_night)
    power = []
    for dose in CURVE:
        power.append((dose, _found(replace(night, slowed={cell: dose}), cell, number, spread)))
        if power[-1][1] == 1:
            break
    return Kind(
        cell=cell,
        itself=_estimate(mean(series.logs[LATENCY])),
        seconds=float(np.mean(series.seconds)),
        per_night=per_night,
        nights=len(quiet),
        alarms=alarms,
        comparisons=comparisons,
        bound=statistics.upper_bound(alarms / len(quiet) * comparisons, comparisons),
        power=tuple(power),
        found=next((dose for dose, share in power if share >= POWER), None),
    )


def _found(night: Setting, cell: str, number: int, spread: Map) -> float:
    """Share of nights in which a cell's latency is red."""
    return float(np.mean([LATENCY in tally.red[cell] for tally in nights.nights(night, number, spread)]))


def _doses(rows: pd.DataFrame) -> list[Dose]:
    """Doses with enough pairs, each interval at a level that all of them together keep."""
    planted = rows[rows.role == PLANTED]
    groups = [group for _, group in planted.groupby(["cell", "dose"], sort=False) if len(group) >= PAIRS_MIN]
    found = []
    for group in groups:
        cell, dose, measured = str(group.cell.iloc[0]), float(group.dose.iloc[0]), of_pairs(group[LATENCY])
        low, high = measured.bounds(1 - FALSE_ALARM / len(groups))
        found.append(Dose(cell, dose, _estimate(measured), low <= math.log1p(dose) <= high))
    return found


def _versions(rows: pd.DataFrame, night: Setting, quiet: Sequence[Tally], number: int, spread: Map) -> list[Versions]:
    others = rows[rows.role.isin((PLACEBO, POSITIVE, CONTROL))]
    groups = [group for _, group in others.groupby(["role", "cell", "base", "candidate"], sort=False)]
    return [_of_versions(group, night, quiet, number, spread) for group in groups]


def _of_versions(group: pd.DataFrame, night: Setting, quiet: Sequence[Tally], number: int, spread: Map) -> Versions:
    role, cell, base, candidate = (str(group[name].iloc[0]) for name in ("role", "cell", "base", "candidate"))
    series, red, within = Series.of(group, equal=False), None, None
    if len(group) >= PAIRS_MIN:
        red = _found(replace(night, cells={**night.cells, cell: series}), cell, number, spread)
        if role == PLACEBO:
            usual = [tally.pairs[cell] for tally in quiet if cell in tally.pairs]
            within = _spread(series, round(float(np.median(usual or [PAIRS_MIN]))), number)
    return Versions(role, cell, base, candidate, _estimate(of_pairs(series.logs[LATENCY])), red, within)


def _spread(series: Series, pairs: int, number: int) -> float:
    """What 99 of 100 means of so many pairs stay within, as a relative change."""
    means = []
    for seed in range(number):
        positions = statistics.resampled(series.sessions, np.random.default_rng(seed))
        means.append(abs(of_pairs([series.logs[LATENCY][next(positions)] for _ in range(pairs)]).value))
    return math.expm1(float(np.quantile(means, PLACEBO_QUANTILE)))


def _estimate(found: Mean) -> Estimate:
    low, high = (None, None) if found.repeats < 2 else (math.exp(end) for end in found.bounds(0.95))
    return Estimate(found.repeats, math.exp(found.value), low, high, found.deviation if found.repeats > 1 else None)

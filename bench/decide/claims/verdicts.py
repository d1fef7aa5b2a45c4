"""Verdicts: how an estimate is held against a threshold, and how findings make up a statement's verdict.

Pure rules; nothing here knows where a figure comes from.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Literal

from scipy.stats import t

from bench.stats.contrast import holm
from bench.words.text import Text

CONFIDENCE = 0.95


class Verdict(StrEnum):
    """What became of a statement."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    MIXED = "mixed"
    INCONCLUSIVE = "inconclusive"
    UNTESTED_HERE = "untested_here"
    NOT_MEASURABLE = "not_measurable"
    STALE = "stale"


DECIDED = frozenset({Verdict.SUPPORTED, Verdict.REFUTED, Verdict.MIXED})

NAMES: dict[Verdict, Text] = {
    Verdict.SUPPORTED: Text(en="supported", zh="成立"),
    Verdict.REFUTED: Text(en="refuted", zh="不成立"),
    Verdict.MIXED: Text(en="mixed", zh="部分成立"),
    Verdict.INCONCLUSIVE: Text(en="inconclusive", zh="尚无定论"),
    Verdict.UNTESTED_HERE: Text(en="untested here", zh="此处未测"),
    Verdict.NOT_MEASURABLE: Text(en="not measurable", zh="无法测量"),
    Verdict.STALE: Text(en="stale", zh="已过期"),
}


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval and the rows it was taken from.

    `low` and `high` equal `value` where the figure is exact (a file's size); both are None where it should have an
    interval and has none, so that nothing can be concluded from it.  `freedom` are the degrees of freedom behind the
    interval, infinity where it is a normal's or a bootstrap's; None where nothing is known of the chance of an error:
    an exact figure has none, and a rule of thumb says nothing of it.
    """

    value: float
    low: float | None
    high: float | None
    rows: tuple[str, ...] = ()
    date: datetime.date | None = None
    freedom: float | None = None


@dataclass(frozen=True)
class Finding:
    """What one check says in one place.  `scope` names the place without words of any language.

    `chance` is that of figures so far from the threshold if the truth lay on it; None where none is known.
    """

    verdict: Verdict
    reason: Text
    scope: str = ""
    machine: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    unit: str = ""
    rows: tuple[str, ...] = ()
    date: datetime.date | None = None
    chance: float | None = None


Side = Literal["above", "at_least", "below", "at_most"]
"""On which side of the threshold the claim lies; `above` and `below` leave the threshold itself out."""

_HOLDS: dict[Side, Callable[[float, float], bool]] = {"above": gt, "at_least": ge, "below": lt, "at_most": le}


def judge(estimate: Estimate, threshold: float, side: Side) -> Verdict:
    """Hold an interval against a threshold.

    Wholly on the claim's side: supported; wholly on the other: refuted; covering it, or missing: inconclusive.
    """
    if estimate.low is None or estimate.high is None:
        return Verdict.INCONCLUSIVE
    ends = {_HOLDS[side](estimate.low, threshold), _HOLDS[side](estimate.high, threshold)}
    return Verdict.INCONCLUSIVE if len(ends) == 2 else Verdict.SUPPORTED if ends == {True} else Verdict.REFUTED


def chance(estimate: Estimate, threshold: float) -> float | None:
    """Chance, on both sides, of a figure so far from the threshold if the truth lay on it; None where none is known.

    From the interval: its half on the threshold's side is so many standard errors as Student's t has at 95 %, in
    logarithms where all is positive, as ratios are.  At most 5 % exactly where the interval leaves the threshold out.
    """
    if estimate.freedom is None or estimate.low is None or estimate.high is None:
        return None
    towards = estimate.low if threshold < estimate.value else estimate.high
    value, end, limit = estimate.value, towards, threshold
    if min(value, end, limit) > 0:
        value, end, limit = (math.log(one) for one in (value, end, limit))
    if value == limit:
        return 1.0
    if value == end:
        return 0.0
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, estimate.freedom))
    return 2 * float(t.sf(abs(value - limit) / abs(value - end) * quantile, estimate.freedom))


def confirmed(by_check: Sequence[Sequence[Finding]]) -> list[list[Finding]]:
    """The same findings, of which those stay decided that all of a statement's findings together leave so.

    A statement looks at several places with several checks, and each of them could decide by mere chance.  The chance
    that any does is held at 5 % by Holm's rule (Holm 1979) over all findings of which a chance is known.  Others are
    exact, or not of chance.
    """
    everything = [finding for findings in by_check for finding in findings]
    known = [finding for finding in everything if finding.chance is not None]
    adjusted = dict(zip(map(id, known), holm([one.chance for one in known if one.chance is not None]), strict=True))

    def kept(finding: Finding) -> Finding:
        if finding.verdict not in DECIDED or adjusted.get(id(finding), 0.0) <= 1 - CONFIDENCE:
            return finding
        reason = Text(
            en=f"{finding.reason.en} Not decided: {len(known)} findings are looked at together (Holm).",
            zh=f"{finding.reason.zh}（共同检视 {len(known)} 处结果（Holm 法），此处不足以下结论。）",
        )
        return replace(finding, verdict=Verdict.INCONCLUSIVE, reason=reason)

    return [[kept(finding) for finding in findings] for findings in by_check]


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Verdict of "all of these hold" in one place: one refuted refutes, one open leaves it open."""
    found = set(verdicts)
    order = (Verdict.REFUTED, Verdict.MIXED, Verdict.UNTESTED_HERE, Verdict.INCONCLUSIVE, Verdict.SUPPORTED)
    return next((verdict for verdict in order if verdict in found), Verdict.INCONCLUSIVE)


def together(parts: Sequence[tuple[Verdict, float | None]]) -> tuple[Verdict, float | None]:
    """Verdict and chance of "all of these hold" in one place, from those of each.

    Confirming takes every part, so the largest chance is that of being wrong (intersection-union test, Berger 1982).
    Any one part refutes, so the least counts once for each part (Bonferroni).
    """
    verdict = every(found for found, _ in parts)
    chances = [known for found, known in parts if known is not None and (found is verdict or verdict not in DECIDED)]
    if not chances:
        return verdict, None
    return verdict, min(1.0, len(parts) * min(chances)) if verdict is Verdict.REFUTED else max(chances)


def over_scopes(findings: Sequence[Finding]) -> Verdict:
    """Verdict of one check over all places it looked at.

    Supported in one place and refuted in another is mixed.  Places that are open do not undo what others decide.
    """
    found = {finding.verdict for finding in findings}
    if {Verdict.SUPPORTED, Verdict.REFUTED} <= found:
        return Verdict.MIXED
    order = (Verdict.MIXED, Verdict.REFUTED, Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE)
    return next((verdict for verdict in order if verdict in found), Verdict.INCONCLUSIVE)


def over_checks(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of a statement from those of its checks, all of which must hold.

    As over places, one part supported and another refuted is mixed.  But a part that is open keeps the whole from
    being supported: a statement is not confirmed by that half of it which could be tested.
    """
    found = set(verdicts)
    if Verdict.MIXED in found or {Verdict.SUPPORTED, Verdict.REFUTED} <= found:
        return Verdict.MIXED
    order = (Verdict.REFUTED, Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE, Verdict.SUPPORTED)
    return next((verdict for verdict in order if verdict in found), Verdict.INCONCLUSIVE)


def combine(by_check: Sequence[Sequence[Finding]]) -> Finding:
    """The statement's own finding from those of its checks, one sequence per check.

    Its figures are those of the finding that decided, the first in order with the combined verdict; its words count
    the findings per verdict and name what was refuted or stayed open.  Raises ValueError without any check.
    """
    if not by_check:
        raise ValueError("a statement without checks has no findings to combine")
    verdict = over_checks([over_scopes(findings) for findings in by_check])
    everything = [finding for findings in by_check for finding in findings]
    dates = [finding.date for finding in everything if finding.date is not None]
    wanted = Verdict.REFUTED if verdict is Verdict.MIXED else verdict
    shown = next((finding for finding in everything if finding.verdict is wanted), None)
    base = Finding(verdict, _summary(everything)) if shown is None else replace(shown, verdict=verdict, scope="")
    return replace(
        base,
        machine="; ".join(sorted({finding.machine for finding in everything if finding.machine})),
        reason=shown.reason if shown is not None and len(everything) == 1 else _summary(everything),
        rows=tuple(sorted({row for finding in everything for row in finding.rows})),
        date=max(dates, default=None),
    )


def _summary(findings: Sequence[Finding]) -> Text:
    """All findings in words: how many of each verdict, then the first of each, those against the statement first."""
    order = (Verdict.REFUTED, Verdict.SUPPORTED, Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE, Verdict.MIXED)
    groups = [(verdict, [one for one in findings if one.verdict is verdict]) for verdict in order]
    groups = [(verdict, group) for verdict, group in groups if group]
    if not groups:
        return Text(en="No check found anything to look at.", zh="没有任何检查找到可看的数据。")
    several = len({finding.machine for finding in findings if finding.machine}) > 1
    english = "; ".join(f"{NAMES[verdict].en} {len(group)}" for verdict, group in groups)
    chinese = "；".join(f"{NAMES[verdict].zh} {len(group)} 处" for verdict, group in groups)
    return Text(
        en=f"Findings: {english}. " + " ".join(_placed(group[0], group[0].reason.en, several) for _, group in groups),
        zh=f"共：{chinese}。" + "".join(_placed(group[0], group[0].reason.zh, several) for _, group in groups),
    )


def _placed(finding: Finding, words: str, with_machine: bool) -> str:
    where = " · ".join(part for part in (finding.machine if with_machine else "", finding.scope) if part)
    return f"({where}) {words}" if where else words

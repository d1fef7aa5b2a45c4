"""Verdicts: how an estimate is held against a threshold, and how findings make up a statement's verdict.

Pure rules; nothing here knows where a figure comes from.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Literal

from bench.words.text import Text


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
    interval and has none, so that nothing can be concluded from it.
    """

    value: float
    low: float | None
    high: float | None
    rows: tuple[str, ...] = ()
    date: datetime.date | None = None


@dataclass(frozen=True)
class Finding:
    """What one check says in one place.  `scope` names the place without words of any language."""

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


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Verdict of "all of these hold" in one place: one refuted refutes, one open leaves it open."""
    found = set(verdicts)
    order = (Verdict.REFUTED, Verdict.MIXED, Verdict.UNTESTED_HERE, Verdict.INCONCLUSIVE, Verdict.SUPPORTED)
    return next((verdict for verdict in order if verdict in found), Verdict.INCONCLUSIVE)


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

"""Verdicts, what they rest on, and how an estimate is held against a threshold; `whole.py` combines them.

Pure rules; nothing here knows where a figure comes from.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import ge, gt, le, lt
from typing import Literal

from scipy.special import stdtr

from bench.stats.contrast import quantile
from bench.words.text import Text

CONFIDENCE = 0.95


class Kind(StrEnum):
    """What a check is worth: it decides, it indicates, or it is told and neither."""

    MEASURED = "measured"
    PROXY = "proxy"
    FACT = "fact"


class Verdict(StrEnum):
    """What became of a statement; `FACT` is what a finding is that decides nothing, and never a statement's verdict."""

    SUPPORTED = "supported"
    PARTLY_SUPPORTED = "partly_supported"
    REFUTED = "refuted"
    MIXED = "mixed"
    INDICATED_FOR = "indicated_for"
    INDICATED_AGAINST = "indicated_against"
    INCONCLUSIVE = "inconclusive"
    UNTESTED_HERE = "untested_here"
    NOT_MEASURABLE = "not_measurable"
    STALE = "stale"
    FACT = "fact"


DECIDED = frozenset({Verdict.SUPPORTED, Verdict.REFUTED, Verdict.MIXED})

GROUPS: Mapping[Kind | None, tuple[Verdict, ...]] = {
    Kind.MEASURED: (Verdict.SUPPORTED, Verdict.PARTLY_SUPPORTED, Verdict.REFUTED, Verdict.MIXED),
    Kind.PROXY: (Verdict.INDICATED_FOR, Verdict.INDICATED_AGAINST),
    None: (Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE, Verdict.NOT_MEASURABLE, Verdict.STALE),
}
"""Verdicts of statements by what they rest on; None: on nothing, they are open."""

KINDS: Mapping[Verdict, Kind | None] = {verdict: kind for kind, group in GROUPS.items() for verdict in group}

DECISIVE: Mapping[Verdict, Verdict] = {
    Verdict.MIXED: Verdict.REFUTED,
    Verdict.PARTLY_SUPPORTED: Verdict.SUPPORTED,
}
"""Verdict of the finding whose figure a statement shows, where it is another than the statement's own."""

NAMES: dict[Verdict, Text] = {
    Verdict.SUPPORTED: Text(en="supported", zh="成立"),
    Verdict.PARTLY_SUPPORTED: Text(en="supported in part", zh="部分得到证实"),
    Verdict.REFUTED: Text(en="refuted", zh="不成立"),
    Verdict.MIXED: Text(en="mixed", zh="结果不一"),
    Verdict.INDICATED_FOR: Text(en="indicated for", zh="有利迹象"),
    Verdict.INDICATED_AGAINST: Text(en="indicated against", zh="不利迹象"),
    Verdict.INCONCLUSIVE: Text(en="inconclusive", zh="尚无定论"),
    Verdict.UNTESTED_HERE: Text(en="untested here", zh="此处未测"),
    Verdict.NOT_MEASURABLE: Text(en="not measurable", zh="无法测量"),
    Verdict.STALE: Text(en="stale", zh="已过期"),
    Verdict.FACT: Text(en="fact", zh="事实"),
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

    @property
    def exact(self) -> bool:
        """Whether it has no interval because it needs none."""
        return self.low is not None and self.low == self.high


@dataclass(frozen=True)
class Finding:
    """What one check says in one place.  `scope` names the place without words of any language.

    `chance` is that of figures so far from the threshold if the truth lay on it; None where none is known.  `needed`
    says that the statement names what this is about: it is not supported as a whole before this is.
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
    needed: bool = False


@dataclass(frozen=True)
class Outcome:
    """A part of a statement with what became of it.

    `says` is the part in words; `findings` are those of the checks that decide or indicate, `why` is the reason where
    there is no such check.
    """

    says: Text
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    why: Text | None = None


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
    errors = abs(value - limit) / abs(value - end) * quantile((1 + CONFIDENCE) / 2, estimate.freedom)
    return 2 * float(stdtr(estimate.freedom, -errors))


def simultaneous(estimate: Estimate, many: int) -> Estimate:
    """The same figure with an interval that holds for all of `many` figures at once (Bonferroni).

    Whoever shows the largest of many shows luck as well: alone its interval leaves a threshold out too often.  Each
    half of the interval grows as Student's t does from 5 % to 5 %/`many`, in logarithms where all is positive.  It
    leaves a threshold out exactly where `many` times `chance` is at most 5 %.
    """
    low, high, freedom = estimate.low, estimate.high, estimate.freedom
    if many < 2 or freedom is None or low is None or high is None:
        return estimate
    alpha = 1 - CONFIDENCE
    factor = quantile(alpha / many / 2, freedom) / quantile(alpha / 2, freedom)
    if min(low, estimate.value) > 0:
        ends = (estimate.value * (end / estimate.value) ** factor for end in (low, high))
    else:
        ends = (estimate.value + (end - estimate.value) * factor for end in (low, high))
    wide_low, wide_high = ends
    return replace(estimate, low=wide_low, high=wide_high)

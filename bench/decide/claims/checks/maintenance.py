"""Checks of how a runtime's packages are kept up: age of the newest release, and how many there are a year.

Ages are counted to the day the index was asked, so that they do not change with the day they are read.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import ClassVar

import pandas as pd
from pydantic import Field, PositiveFloat

from bench.decide.claims import gate
from bench.decide.claims.checks._common import Bounded, finding, shown
from bench.decide.claims.checks._releases import Releases, releases
from bench.decide.claims.statements import Claim
from bench.decide.claims.synthetic import release, results
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate, Finding, Kind, Side, Verdict
from bench.words.text import Text

YEAR = datetime.timedelta(days=365)


class Released(Bounded):
    """Packages looked at, a finding each, so that an abandoned package and its successor do not hide each other.

    Dates say that somebody released, not what changed: they indicate.
    """

    strongest: ClassVar[Kind] = Kind.PROXY

    threshold: PositiveFloat | None = None
    packages: tuple[str, ...] = Field(min_length=1)


def released_recently(tables: Tables, _claim: Claim, params: Released) -> list[Finding]:
    """The final release with the highest version was at most `threshold` days old when the index was asked.

    The highest version, not the latest date: a mirror dates what it copied late, and an old branch may get a fix.
    """

    def age(found: Releases) -> tuple[float, list[str]]:
        newest = found.newest
        return (found.snapshot - newest.uploaded.min()) / pd.Timedelta(days=1), [str(newest.version.iloc[0])]

    def words(found: Releases, figure: str) -> Text:
        asked = f"{found.snapshot:%Y-%m-%d}"
        return Text(
            en=f"The newest final release of {found.package} was {figure} days old on {asked}.",
            zh=f"截至 {asked}，{found.package} 最新的正式版已发布 {figure} 天。",
        )

    return _each(tables, params, age, "at_most", "days", words)


def releases_per_year(tables: Tables, _claim: Claim, params: Released) -> list[Finding]:
    """At least `threshold` final releases in the twelve months before the index was asked.

    Releases of one day count once: the second mends the first.  A version dated after a higher one does not count,
    since a mirror's late copy cannot be told from a fix of an old branch.
    """

    def count(found: Releases) -> tuple[float, list[str]]:
        first = found.files.groupby("parsed").uploaded.min().sort_index(ascending=False)
        in_order = first[first <= first.cummin()]
        recent = in_order[in_order > found.snapshot - YEAR]
        return float(recent.dt.date.nunique()), [str(version) for version in sorted(recent.index)] or [
            str(first.index[0])
        ]

    def words(found: Releases, figure: str) -> Text:
        asked = f"{found.snapshot:%Y-%m-%d}"
        return Text(
            en=f"{found.package} had {figure} final releases in the twelve months before {asked}.",
            zh=f"{asked} 之前的十二个月内，{found.package} 发布了 {figure} 个正式版。",
        )

    return _each(tables, params, count, "at_least", "releases", words)


def _each(
    tables: Tables,
    params: Released,
    figure: Callable[[Releases], tuple[float, list[str]]],
    side: Side,
    unit: str,
    words: Callable[[Releases, str], Text],
) -> list[Finding]:
    findings = []
    for package in params.packages:
        found = releases(tables, package)
        if found is None or found.newest.uploaded.isna().all():
            text = Text(
                en=f"The snapshot of package indexes says no dates of {package}.",
                zh=f"软件包索引的快照中没有 {package} 的日期。",
            )
            findings.append(Finding(Verdict.INCONCLUSIVE, text, scope=package))
            continue
        value, versions = figure(found)
        rows = tuple(found.name(version) for version in versions)
        estimate = Estimate(value, value, value, rows, day(found.snapshot))
        text = words(found, shown(estimate, unit))
        findings.append(finding(tables, package, estimate, params.threshold, side, unit, text))
    return findings


gate.register(
    "released_recently",
    Released,
    released_recently,
    threshold=180,
    packages=["runtime"],
    supports=results(release("runtime", "1.0", 900), release("runtime", "2.0", 30)),
    refutes=results(release("runtime", "1.0", 900), release("runtime", "2.0rc1", 30)),
    wide=results(release("runtime", "1.0", 900), release("runtime", "2.0", None)),
)
gate.register(
    "releases_per_year",
    Released,
    releases_per_year,
    threshold=3,
    packages=["runtime"],
    supports=results(*(release("runtime", f"{n}.0", 350 - 100 * n) for n in range(4))),
    refutes=results(release("runtime", "1.0", 20), release("runtime", "2.0", 30), release("runtime", "2.1", 30)),
    wide=results(release("runtime", "1.0", None), release("runtime", "2.0", None)),
)

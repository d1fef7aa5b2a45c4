"""Claims held against tables: findings, verdicts, and the table `claims` that keeps both.

The same tables and claims give the same table byte for byte: nothing here reads a clock or depends on the order of
rows, and dates are those of the runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import store
from bench.decide.claims import checks as _registered  # noqa: F401 - registers every check
from bench.decide.claims import gate
from bench.decide.claims.registry import Check, Claim, parameters
from bench.decide.claims.tables import Origin, Tables
from bench.decide.claims.verdicts import Finding, Verdict, combine, confirmed
from bench.words.text import Text

PROXY = Text(en="By proxy:", zh="以替代指标衡量：")
SILENT = Text(en="Published tables say nothing of this part.", zh="公开的表格没有涉及这一部分。")


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and the findings behind it, each with the check that made it."""

    claim: Claim
    origin: Origin
    verdict: Finding
    findings: tuple[tuple[Check, Finding], ...] = ()


def evaluate(claims: Sequence[Claim], tables: Tables, stale: frozenset[str] | set[str] = frozenset()) -> list[Judged]:
    """Every claim's verdict over measured tables, in the order of the claims.

    `stale` holds ids of claims whose words the document no longer has: they are not judged.
    """
    return [_judge(claim, tables, claim.id in stale) for claim in claims]


def evaluate_published(claims: Sequence[Claim], tables: Tables) -> list[Judged]:
    """Verdicts over published tables, of the claims about which they say anything."""
    judged = []
    for claim in claims:
        by_check = [[one for one in _findings(claim, check, tables) if one.rows] for check in claim.checks]
        if any(by_check):
            silent = [Finding(Verdict.INCONCLUSIVE, SILENT)]
            found = [(check, group or silent) for check, group in zip(claim.checks, by_check, strict=True)]
            judged.append(_combined(claim, tables.origin, found))
    return judged


def rows(judged: Sequence[Judged], document_sha256: str) -> list[dict[str, Any]]:
    """Rows of the table `claims`: per claim its combined verdict first, then its findings."""
    return [row for one in judged for row in _rows(one, document_sha256)]


def write(directory: Path, judged: Sequence[Judged], document_sha256: str) -> Path:
    """Write claims.parquet into a run's folder.  Raises store.StoreError."""
    return store.write_table(directory, "claims", rows(judged, document_sha256))


def counts(judged: Sequence[Judged]) -> Mapping[Verdict, int]:
    """How many claims have each verdict; every verdict is there."""
    return {verdict: sum(one.verdict.verdict is verdict for one in judged) for verdict in Verdict}


def _judge(claim: Claim, tables: Tables, stale: bool) -> Judged:
    if stale:
        words = Text(en="The document no longer says this.", zh="文档中已不再有这句话。")
        return Judged(claim, tables.origin, Finding(Verdict.STALE, words))
    if claim.not_measurable is not None:
        return Judged(claim, tables.origin, Finding(Verdict.NOT_MEASURABLE, claim.not_measurable))
    return _combined(claim, tables.origin, [(check, _findings(claim, check, tables)) for check in claim.checks])


def _combined(claim: Claim, origin: Origin, found: Sequence[tuple[Check, list[Finding]]]) -> Judged:
    by_check = confirmed([group for _, group in found])
    findings = [(check, finding) for (check, _), group in zip(found, by_check, strict=True) for finding in group]
    return Judged(claim, origin, combine(by_check), tuple(findings))


def _findings(claim: Claim, check: Check, tables: Tables) -> list[Finding]:
    """What one check finds, in the order of machines and places; a proxy's words say that it is one."""
    registered = gate.CHECKS[check.check]
    narrowed = tables.on(check.scope.machines)
    found = registered.function(narrowed, claim, parameters(check, registered.parameters))
    found.sort(key=lambda one: (one.machine, one.scope, one.verdict, one.rows))
    if not check.proxy:
        return found
    return [replace(one, reason=Text(en=f"{PROXY.en} {one.reason.en}", zh=PROXY.zh + one.reason.zh)) for one in found]


def _rows(judged: Judged, document_sha256: str) -> list[dict[str, Any]]:
    claim = judged.claim
    proxy = any(check.proxy for check, _ in judged.findings)
    entries: list[tuple[str, bool, Finding]] = [("", proxy, judged.verdict)]
    for check, finding in judged.findings:
        entries.append((check.check, check.proxy, replace(finding, scope=finding.scope or claim.option or "-")))
    return [
        {
            "claim_id": claim.id,
            "option": claim.option,
            "aspect": claim.aspect,
            "origin": judged.origin,
            "check": check,
            "verdict": finding.verdict.value,
            "value": finding.value,
            "low": finding.low,
            "high": finding.high,
            "threshold": finding.threshold,
            "unit": finding.unit,
            "scope": finding.scope,
            "machine": finding.machine,
            "reason": finding.reason.en,
            "reason_zh": finding.reason.zh,
            "proxy": by_proxy,
            "evidence": json.dumps(finding.rows, ensure_ascii=False),
            "date": finding.date,
            "document_sha256": document_sha256,
        }
        for check, by_proxy, finding in entries
    ]

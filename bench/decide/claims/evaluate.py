"""Claims held against tables: findings, verdicts, and the table `claims` that keeps both.

The same tables and claims give the same table byte for byte: nothing here reads a clock or depends on the order of
rows, and dates are those of the runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import store
from bench.decide.claims import checks as _registered  # noqa: F401 - registers every check
from bench.decide.claims import gate
from bench.decide.claims.registry import parameters
from bench.decide.claims.statements import Check, Claim, Part
from bench.decide.claims.tables import Origin, Tables
from bench.decide.claims.verdicts import KINDS, Finding, Kind, Outcome, Verdict
from bench.decide.claims.whole import combine, confirmed, of_part, over_scopes, worth
from bench.words.text import Text

PROXY = Text(en="By proxy:", zh="以替代指标衡量：")
SILENT = Text(en="Published tables say nothing of this part.", zh="已公布的数据没有涉及这一部分。")

_Found = tuple[Check, list[Finding]]
"""A check with its findings, before what it is worth is looked at."""


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict and what is behind it.

    `findings` stand each with the check that made it, facts among them; `parts` are those of the sentence, in order;
    `finds` what a fact has to say at the head of the guide's page.
    """

    claim: Claim
    origin: Origin
    verdict: Finding
    findings: tuple[tuple[Check, Finding], ...] = ()
    parts: tuple[Outcome, ...] = ()
    finds: tuple[Text, ...] = ()


def evaluate(claims: Sequence[Claim], tables: Tables, stale: frozenset[str] | set[str] = frozenset()) -> list[Judged]:
    """Every claim's verdict over measured tables, in the order of the claims.

    `stale` holds ids of claims whose words the document no longer has: they are not judged.
    """
    return [_judge(claim, tables, claim.id in stale) for claim in claims]


def evaluate_published(claims: Sequence[Claim], tables: Tables) -> list[Judged]:
    """Verdicts over published tables, of the claims about which they say anything."""
    judged = []
    for claim in claims:
        by_check = [(check, [one for one in _findings(claim, check, tables) if one.rows]) for check in claim.deciding]
        if any(group for _, group in by_check):
            silent = [Finding(Verdict.INCONCLUSIVE, SILENT)]
            judged.append(_combined(claim, tables, [(check, group or silent) for check, group in by_check]))
    return judged


def rows(judged: Sequence[Judged], document_sha256: str) -> list[dict[str, Any]]:
    """Rows of the table `claims`: per claim its combined verdict first, then its findings."""
    return [row for one in judged for row in _rows(one, document_sha256)]


def write(directory: Path, judged: Sequence[Judged], document_sha256: str) -> Path:
    """Write claims.parquet into a run's folder.  Raises store.StoreError."""
    return store.write_table(directory, "claims", rows(judged, document_sha256))


def counts(judged: Iterable[Judged]) -> Mapping[Verdict, int]:
    """How many claims have each verdict; every verdict that a claim can have is there, by what it rests on."""
    found = [one.verdict.verdict for one in judged]
    return {verdict: found.count(verdict) for verdict in KINDS}


def _judge(claim: Claim, tables: Tables, stale: bool) -> Judged:
    if stale:
        words = Text(en="The document no longer says this.", zh="文档中已不再有这句话。")
        return Judged(claim, tables.origin, Finding(Verdict.STALE, words))
    return _combined(claim, tables, [(check, _findings(claim, check, tables)) for check in claim.checks])


def _combined(claim: Claim, tables: Tables, found: Sequence[_Found]) -> Judged:
    """The verdict from what every check found: facts stand aside, the rest decides and indicates part by part."""
    told = [(check, group) for check, group in found if check.kind is Kind.FACT]
    weighed = [(check, group) for check, group in found if check.kind is not Kind.FACT]
    kept = confirmed([group for _, group in weighed])
    judged = [(check, _weighed(check, group, tables)) for (check, _), group in zip(weighed, kept, strict=True)]
    facts = [(check, _weighed(check, [one for one in group if one.rows], tables)) for check, group in told]
    outcomes = tuple(_outcome(claim, part, judged) for part in claim.parts)
    return Judged(
        claim,
        tables.origin,
        combine(outcomes) if outcomes else _undecided(claim),
        tuple((check, finding) for check, group in [*judged, *facts] for finding in group),
        outcomes,
        tuple(check.find for check, group in told if check.find and _fails(group)),
    )


def _weighed(check: Check, findings: Sequence[Finding], tables: Tables) -> list[Finding]:
    return [worth(one, check.kind, stands_in=tables.stands_in(one.rows), necessary=check.necessary) for one in findings]


def _outcome(claim: Claim, part: Part, judged: Sequence[_Found]) -> Outcome:
    own = claim.checks_of(part)
    if part.why is not None:
        verdict = Verdict.UNTESTED_HERE if part.untested is not None else Verdict.NOT_MEASURABLE
        return Outcome(part.says, verdict, why=part.why)
    found = [(check, group) for check, group in judged if check in own]
    by_kind = {kind: [over_scopes(group) for check, group in found if check.kind is kind] for kind in Kind}
    verdict = of_part(by_kind[Kind.MEASURED], by_kind[Kind.PROXY])
    return Outcome(part.says, verdict, tuple(one for _, group in found for one in group))


def _undecided(claim: Claim) -> Finding:
    """The verdict on a claim that no check decides or indicates."""
    if claim.untested is not None:
        return Finding(Verdict.UNTESTED_HERE, claim.untested)
    assert claim.not_measurable is not None, "a claim has one of the three"
    return Finding(Verdict.NOT_MEASURABLE, claim.not_measurable)


def _fails(findings: Iterable[Finding]) -> bool:
    return any(one.verdict is Verdict.REFUTED for one in findings)


def _findings(claim: Claim, check: Check, tables: Tables) -> list[Finding]:
    """What one check finds, in the order of machines and places; a proxy's words say that it is one."""
    registered = gate.CHECKS[check.check]
    narrowed = tables.on(check.scope.machines)
    found = registered.function(narrowed, claim, parameters(check, registered.parameters))
    found.sort(key=lambda one: (one.machine, one.scope, one.verdict, one.rows))
    if check.kind is not Kind.PROXY:
        return found
    return [replace(one, reason=Text(en=f"{PROXY.en} {one.reason.en}", zh=PROXY.zh + one.reason.zh)) for one in found]


def _rows(judged: Judged, document_sha256: str) -> list[dict[str, Any]]:
    claim = judged.claim
    kind = KINDS[judged.verdict.verdict]
    entries: list[tuple[str, str, str, Finding]] = [("", kind.value if kind else "", "", judged.verdict)]
    for check, finding in judged.findings:
        placed = replace(finding, scope=finding.scope or claim.option or "-")
        entries.append((check.check, check.kind.value, check.part, placed))
    return [
        {
            "claim_id": claim.id,
            "option": claim.option,
            "aspect": claim.aspect,
            "origin": judged.origin,
            "check": check,
            "kind": by,
            "part": part,
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
            "evidence": json.dumps(finding.rows, ensure_ascii=False),
            "date": finding.date,
            "document_sha256": document_sha256,
        }
        for check, by, part, finding in entries
    ]

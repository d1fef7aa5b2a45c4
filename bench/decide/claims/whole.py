"""From findings to a statement's verdict: what each is worth, and how places, checks and parts make up the whole.

Pure rules; nothing here knows where a finding comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bench.decide.claims.verdicts import CONFIDENCE, DECIDED, DECISIVE, NAMES, Finding, Kind, Outcome, Verdict
from bench.stats.contrast import holm
from bench.words.text import Text


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


def worth(finding: Finding, kind: Kind, *, stands_in: bool = False, necessary: bool = False) -> Finding:
    """The same finding as what its check may say.

    A fact is told and decides nothing.  What is measured on something that only stands in for the thing (`stands_in`:
    an emulator, an interpreter) is an indication as a proxy is.  A proxy that is `necessary` refutes where it fails.
    """
    if kind is Kind.FACT:
        return replace(finding, verdict=Verdict.FACT, threshold=None)
    if kind is Kind.MEASURED and not stands_in:
        return finding
    if finding.verdict is Verdict.REFUTED and necessary and not stands_in:
        return finding
    weaker = {Verdict.SUPPORTED: Verdict.INDICATED_FOR, Verdict.REFUTED: Verdict.INDICATED_AGAINST}
    return replace(finding, verdict=weaker.get(finding.verdict, finding.verdict))


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


_S, _P, _R, _M = Verdict.SUPPORTED, Verdict.PARTLY_SUPPORTED, Verdict.REFUTED, Verdict.MIXED
_FOR, _AGAINST = Verdict.INDICATED_FOR, Verdict.INDICATED_AGAINST
_N, _U, _X = Verdict.INCONCLUSIVE, Verdict.UNTESTED_HERE, Verdict.NOT_MEASURABLE


def over_scopes(findings: Sequence[Finding]) -> Verdict:
    """Verdict of one check over all places it looked at.

    Supported in one place and refuted in another is mixed.  Places that are open do not undo what others decide,
    unless the statement names them: then it is supported in part.  Indications count where nothing is decided, and
    leave it open where they contradict each other or where one that is named is lacking.
    """
    found = {finding.verdict for finding in findings}
    lacking = {finding.verdict for finding in findings if finding.needed} - {_S}
    if _M in found or {_S, _R} <= found:
        return _M
    if _R in found:
        return _R
    if _S in found:
        return _P if lacking else _S
    unanswered = next((verdict for verdict in (_N, _U) if verdict in lacking), None)
    if unanswered is not None or {_FOR, _AGAINST} <= found:
        return unanswered or _N
    return next((verdict for verdict in (_FOR, _AGAINST, _N, _U) if verdict in found), _N)


def over_checks(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of "all of these checks hold", for one part of a statement.

    As over places, one supported and another refuted is mixed.  But one that is open keeps the part from being
    supported, and one that is only indicated makes the part no more than that.
    """
    found = set(verdicts)
    if _M in found or (_R in found and found & {_S, _P}):
        return _M
    if _R in found:
        return _R
    if _AGAINST in found and found & {_S, _P, _FOR}:
        return _N
    return next((verdict for verdict in (_AGAINST, _N, _U, _FOR, _P, _S) if verdict in found), _N)


def of_part(measured: Sequence[Verdict], proxies: Sequence[Verdict]) -> Verdict:
    """Verdict of a part from those of its checks by kind.

    What is measured decides; proxies indicate only where nothing measured does.  A necessary condition among them
    that fails refutes, and is against what is measured otherwise.
    """
    decided = over_checks(measured) if measured else _N
    if _R in proxies:
        return over_checks([_R, *({decided} & {_S, _P, _R, _M})])
    if decided in (_S, _P, _R, _M):
        return decided
    indicated = over_checks([*proxies, *({decided} & {_FOR, _AGAINST})]) if proxies else decided
    return indicated if indicated in (_FOR, _AGAINST) or not measured else decided


def over_parts(verdicts: Sequence[Verdict]) -> Verdict:
    """Verdict of a statement from those of its parts: supported only where every one is.

    One part that is refuted refutes the statement, mixed where another is supported.  Some supported and none refuted
    is supported in part.  Below that, what is indicated; contradicting indications leave it open.
    """
    found = set(verdicts)
    if _M in found or (_R in found and found & {_S, _P}):
        return _M
    if _R in found:
        return _R
    if found & {_S, _P}:
        return _S if found == {_S} else _P
    if {_FOR, _AGAINST} <= found:
        return _N
    return next((verdict for verdict in (_AGAINST, _FOR, _N, _U, _X) if verdict in found), _N)


def combine(outcomes: Sequence[Outcome]) -> Finding:
    """The statement's own finding from what became of its parts.

    Its figures are those of the finding that decided, the first in order with the combined verdict; its words count
    the findings per verdict, name what was refuted or stayed open, and list the parts where there are several.
    Raises ValueError without any part.
    """
    if not outcomes:
        raise ValueError("a statement without parts has nothing to combine")
    verdict = over_parts([outcome.verdict for outcome in outcomes])
    everything = [finding for outcome in outcomes for finding in outcome.findings]
    dates = [finding.date for finding in everything if finding.date is not None]
    wanted = DECISIVE.get(verdict, verdict)
    shown = next((finding for finding in everything if finding.verdict is wanted), None)
    summary = shown.reason if shown is not None and len(everything) == 1 else _summary(everything)
    base = Finding(verdict, summary) if shown is None else replace(shown, verdict=verdict, scope="", needed=False)
    return replace(
        base,
        machine="; ".join(sorted({finding.machine for finding in everything if finding.machine})),
        reason=_with_parts(summary, outcomes),
        rows=tuple(sorted({row for finding in everything for row in finding.rows})),
        date=max(dates, default=None),
    )


def _with_parts(summary: Text, outcomes: Sequence[Outcome]) -> Text:
    """The same words, and of several parts which became what."""
    if len(outcomes) == 1:
        return summary
    groups: dict[Verdict, list[Text]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.verdict, []).append(outcome.says)
    ordered = [(verdict, groups[verdict]) for verdict in Verdict if verdict in groups]
    english = "; ".join(f"{NAMES[verdict].en}: {', '.join(one.en for one in says)}" for verdict, says in ordered)
    chinese = "；".join(f"{NAMES[verdict].zh}：{'、'.join(one.zh for one in says)}" for verdict, says in ordered)
    return Text(
        en=f"{summary.en} Of {len(outcomes)} parts: {english}.",
        zh=f"{summary.zh}共 {len(outcomes)} 个部分：{chinese}。",
    )


def _summary(findings: Sequence[Finding]) -> Text:
    """All findings in words: how many of each verdict, then the first of each, those against the statement first."""
    order = (_R, _S, _AGAINST, _FOR, _N, _U, _M)
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

"""Reading probes.parquet: the newest observation of each subject, as findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from bench.decide.claims.checks._common import missing
from bench.decide.claims.statements import Claim, Parameters
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Finding, Verdict
from bench.words.text import Text

OUTCOMES = {"yes": Verdict.SUPPORTED, "no": Verdict.REFUTED, "unavailable": Verdict.INCONCLUSIVE}


def observations(tables: Tables, probe: str, options: Sequence[str]) -> list[Any]:
    """Rows of a probe about some options: of each subject and machine the newest, in order.

    Where an option has none of its own, a row that says why the whole probe could not be made stands for it.
    """
    rows = tables.probes[tables.probes.probe == probe]
    own = rows[rows.option.isin(options)]
    own = own if len(own) else rows[(rows.option == "") & (rows.outcome == "unavailable")]
    newest = own.sort_values("date", kind="stable").groupby(["machine", "option", "subject"], sort=True).tail(1)
    return list(newest.sort_values(["machine", "option", "subject"], kind="stable").itertuples(index=False))


def unobserved(tables: Tables, claim: Claim, probe: str, options: Sequence[str]) -> list[Finding]:
    """What is said where a probe has no row: another machine is needed, or the probe has yet to be made."""
    names = ", ".join(tables.name(option) for option in options)
    text = Text(
        en=f"Probe {probe} has not looked at {names}; `python -m bench probe` makes it.",
        zh=f"探测 {probe} 尚未检查 {names}；可运行 `python -m bench probe`。",
    )
    found = missing(tables, claim, [], options)
    return [replace(one, reason=text) if one.verdict is Verdict.INCONCLUSIVE else one for one in found]


def observation_name(row: Any) -> str:
    """How evidence names a row of probes: RUN/probes:PROBE/OPTION/SUBJECT."""
    return f"{row.run_id}/probes:{row.probe}/{row.option}/{row.subject}"


def observed(row: Any, words: Text) -> Finding:
    """The finding of one observation: yes supports, no refutes, and what could not be observed is inconclusive."""
    said = str(row.text or "").strip()
    if row.outcome == "unavailable":
        words = Text(en="It could not be observed.", zh="无法观察。")
    return Finding(
        OUTCOMES[row.outcome],
        Text(en=f"{words.en} {said}".strip(), zh=f"{words.zh}{said}"),
        scope=" · ".join(part for part in (row.option, row.subject) if part),
        machine=str(row.machine),
        rows=(observation_name(row),),
        date=day(row.date),
    )


def answers(probe: str, said: dict[str, Text]) -> Callable[[Tables, Claim, Parameters], list[Finding]]:
    """A check that asks a yes-or-no probe about the claim's option, a finding per subject; `said` words the answers."""

    def check(tables: Tables, claim: Claim, params: Parameters) -> list[Finding]:
        options = params.scope.options or (claim.option,)
        found = observations(tables, probe, options)
        if not found:
            return unobserved(tables, claim, probe, options)
        return [observed(row, said.get(row.outcome, said["no"])) for row in found]

    return check

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


def unobserved(
    tables: Tables, claim: Claim, probe: str, options: Sequence[str], absent: Text | None = None
) -> list[Finding]:
    """What is said where a probe has no row: another machine is needed, or the probe has yet to be made.

    `absent` says what the probe takes, where that is not everybody's.
    """
    names = ", ".join(tables.name(option) for option in options)
    text = absent or Text(
        en=f"Probe {probe} has not looked at {names}; `yolo11-bench probe --only {probe}` makes it.",
        zh=f"探测 {probe} 尚未检查 {names}；可运行 `yolo11-bench probe --only {probe}`。",
    )
    found = missing(tables, claim, [], options)
    run = [one for one in found if one.verdict is Verdict.INCONCLUSIVE]
    return [replace(one, verdict=Verdict.UNTESTED_HERE, reason=text) if one in run else one for one in found]


def observation_name(row: Any) -> str:
    """How evidence names a row of probes: RUN/probes:PROBE/OPTION/SUBJECT."""
    return f"{row.run_id}/probes:{row.probe}/{row.option}/{row.subject}"


def observed(row: Any, words: Text, absent: Text | None = None) -> Finding:
    """The finding of one observation: yes supports, no refutes, and what could not be observed is inconclusive.

    Where nothing of the probe could be made on that machine, it is untested here, and `absent` says what it takes.
    """
    said = str(row.text or "").strip()
    nothing = row.outcome == "unavailable" and not (row.option or row.subject)
    text = Text(en=f"{words.en} {said}".strip(), zh=f"{words.zh}{said}")
    if row.outcome == "unavailable":
        text = Text(en=f"It could not be observed. {said}".strip(), zh=f"无法观察。{said}")
    return Finding(
        Verdict.UNTESTED_HERE if nothing else OUTCOMES[row.outcome],
        absent if nothing and absent is not None else text,
        scope=" · ".join(part for part in (row.option, row.subject) if part),
        machine=str(row.machine),
        rows=(observation_name(row),),
        date=day(row.date),
    )


def answers(probe: str, said: dict[str, Text]) -> Callable[[Tables, Claim, Parameters], list[Finding]]:
    """A check that asks a yes-or-no probe about the claim's option, a finding per subject; `said` words the answers."""
    absent = said.get("absent")

    def check(tables: Tables, claim: Claim, params: Parameters) -> list[Finding]:
        options = params.scope.options or (claim.option,)
        found = observations(tables, probe, options)
        if not found:
            return unobserved(tables, claim, probe, options, absent)
        return [observed(row, said.get(row.outcome, said["no"]), absent) for row in found]

    return check

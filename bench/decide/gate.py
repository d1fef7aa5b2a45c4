"""Has a cell become worse?  The ladder from its status to its numbers, as pure functions over two runs' tables.

A cell that vanished, failed or ran something else is worse whatever its speed, and nothing below that is looked at.
Sizes are compared exactly, scores image by image, times by pairs of fresh guests (`bench.stats.change`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import pandas as pd

from bench.decide.operators import operator_counts
from bench.grid.tolerances import EXACT, SCORE, Tolerance
from bench.measure.contest import Contest
from bench.reasons import Reason, Status
from bench.stats import Interval
from bench.stats.change import CONFIRM_ALPHA, Change, Decided, both, p_value, suspects
from bench.store.operators import Operator
from bench.store.reading import optional, task_of
from bench.store.tables import read_table
from bench.tasks.registry import recorded
from bench.tasks.task import AnyTask

STATUS, ATTESTED, OPERATORS = "status", "attested", "operators"
CONTROL = "A/A control"
"""Name of the contest of a base against itself."""
_ATTESTED = ("device", "compute", "threads", "input_shape")
# Skipped for a reason that lies in the machine or the selection, and says nothing of the candidate.
_ELSEWHERE = {Reason.TARGET_ABSENT.value, Reason.NOT_SELECTED.value, Reason.INTERRUPTED.value}


class Verdict(StrEnum):
    """What became of a metric of a cell."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    UNDECIDED = "undecided"
    INCOMPARABLE = "incomparable"
    UNCHANGED = "unchanged"


OF_CHANGE = {
    Change.REGRESSED: Verdict.WORSE,
    Change.IMPROVED: Verdict.BETTER,
    Change.OK: Verdict.SAME,
    Change.UNDECIDED: Verdict.UNDECIDED,
}
"""What a change of times is called here."""


@dataclass(frozen=True)
class Line:
    """A metric of a cell, held against the base.

    `change` is candidate over base, of scores candidate minus base, with its 95 % interval; None for what is no number.
    `visible` is the smallest slowdown that would have been seen 95 times in 100.
    """

    cell: str
    metric: str
    verdict: Verdict
    base: str | float | None = None
    candidate: str | float | None = None
    change: Interval | None = None
    margin: float | None = None
    visible: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Tables:
    """What a run says of its cells: rows of `cells` by id, its predictions and the objects there were."""

    cells: Mapping[str, Any]
    predictions: pd.DataFrame
    truth: pd.DataFrame
    task: AnyTask


def tables(run: Path, names: Sequence[str]) -> Tables:
    """Read a run, and the predictions of those of its cells.  Raises StoreError for a table that cannot be read."""
    task = recorded(task_of(run))
    cells = {str(row.cell_id): row for row in read_table(run, "cells").itertuples(index=False)}
    return Tables(cells, optional(run, task.table, {"cell_id": names}), read_table(run, "ground_truth"), task)


def vanished(cell: str) -> Line:
    """The line of a cell that the base has and the candidate's matrix does not."""
    return Line(
        cell, STATUS, Verdict.WORSE, Status.MEASURED.value, why="the base has this cell, the candidate does not"
    )


def unchanged(cell: str) -> Line:
    """The line of a cell with the base's own identity."""
    return Line(cell, "all", Verdict.UNCHANGED, why="lock, artifact, adapter, options and device are the base's")


def ladder(cell: str, base: Tables, candidate: Tables, allowed: Mapping[str, Tolerance]) -> list[Line]:
    """Lines of a cell but those of its times: its status, what it attests, its sizes, its score.

    Ends at the first rung where the cell does not stand.
    """
    before, now = base.cells.get(cell), candidate.cells.get(cell)
    line = _status(cell, before, now)
    lines = [line]
    if line.verdict is not Verdict.SAME or now is None or now.status == Status.SKIPPED:
        return lines
    if now.status == Status.MEASURED:
        attested = _attested(cell, before, now)
        lines.append(attested)
        if attested.verdict is Verdict.WORSE:
            return lines
    lines += _exact(cell, before, now, allowed)
    if now.status == Status.MEASURED:
        lines += _score(cell, base, candidate, allowed[SCORE].margin)
    return lines


def stands(lines: list[Line]) -> bool:
    """Whether a cell ran on both sides as it should, so that its times may be compared."""
    rungs = {line.metric: line.verdict for line in lines}
    return rungs.get(STATUS) is Verdict.SAME and rungs.get(ATTESTED) is Verdict.SAME


def _status(cell: str, before: Any, now: Any) -> Line:
    def line(verdict: Verdict, why: str = "") -> Line:
        one, other = (None if row is None else str(row.status) for row in (before, now))
        return Line(cell, STATUS, verdict, one, other, why=why)

    if now is None:
        return vanished(cell)
    if before is None:
        return line(Verdict.INCOMPARABLE, "the base does not have this cell")
    good = {Status.MEASURED: 2, Status.EXPORTED: 1}
    ranks = [good.get(Status(row.status), 0) for row in (before, now)]
    if now.status == Status.SKIPPED and now.reason_code in _ELSEWHERE and ranks[0]:
        return line(Verdict.INCOMPARABLE, str(now.reason))
    if ranks[1] < ranks[0]:
        return line(Verdict.WORSE, f"{now.reason_code}: {now.reason}")
    if ranks[1] > ranks[0]:
        return line(Verdict.BETTER, f"the base: {before.reason_code}: {before.reason}")
    return line(Verdict.SAME)


def _attested(cell: str, before: Any, now: Any) -> Line:
    told = [json.loads(row.attested or "{}") for row in (before, now)]
    differing = [key for key in _ATTESTED if told[0].get(key) != told[1].get(key)]
    one, other = (", ".join(f"{key} {said.get(key)}" for key in differing or ["compute"]) for said in told)
    if differing:
        return Line(cell, ATTESTED, Verdict.WORSE, one, other, why="it ran something else than the base")
    return Line(cell, ATTESTED, Verdict.SAME, one, other)


def executed(cell: str, base: Sequence[Operator], candidate: Sequence[Operator]) -> Line:
    """The line of what both sides execute: as many operators of each type, or not, and then the times say what of it.

    Never worse by itself: a runtime that splits an operator in two may have become faster by it.
    """
    counts = operator_counts(base), operator_counts(candidate)
    line = Line(cell, OPERATORS, Verdict.SAME, str(len(base)), str(len(candidate)))
    if counts[0] == counts[1]:
        return line
    return replace(
        line, verdict=Verdict.UNDECIDED, why="other operators are executed; whether that costs, its times say"
    )


def _exact(cell: str, before: Any, now: Any, allowed: Mapping[str, Tolerance]) -> Iterator[Line]:
    for metric in EXACT:
        values = [getattr(row, metric) for row in (before, now)]
        if any(pd.isna(value) or not value for value in values):
            continue
        one, other = (float(value) for value in values)
        ratio, margin = other / one, allowed[metric].margin
        yield Line(cell, metric, of_size(ratio, margin), one, other, Interval(ratio, ratio, ratio), margin)


def of_size(ratio: float, margin: float) -> Verdict:
    """What a size over the base's says where a growth of `margin` is allowed."""
    return Verdict.WORSE if ratio > 1 + margin else Verdict.BETTER if ratio < 1 - margin else Verdict.SAME


def _score(cell: str, base: Tables, candidate: Tables, margin: float) -> Iterator[Line]:
    """The headline metric: equal predictions are equal, others are compared by the paired bootstrap over images."""
    before, now = base.cells[cell], candidate.cells[cell]
    if pd.isna(before.map50_95) or pd.isna(now.map50_95):
        return
    task = base.task
    line = Line(cell, SCORE, Verdict.SAME, float(before.map50_95), float(now.map50_95), margin=margin)
    one, other = (rows[rows.cell_id == cell] for rows in (base.predictions, candidate.predictions))
    if _equal(one, other):
        yield replace(line, change=Interval(0.0, 0.0, 0.0), why="the same predictions, bit by bit")
        return
    found = task.difference(other, one, base.truth)
    yield replace(line, verdict=of_score(found, margin), change=found)


def of_score(found: Interval, margin: float) -> Verdict:
    """What a score's difference from the base's, with its interval, says where a loss of `margin` is allowed."""
    if found.low is None or found.high is None:
        return Verdict.UNDECIDED
    if found.high < -margin:
        return Verdict.WORSE
    if found.low > margin:
        return Verdict.BETTER
    return Verdict.SAME if found.low > -margin else Verdict.UNDECIDED


def _equal(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Whether two cells predicted the same; rows are compared as sets, since runs arrange them by image."""
    columns = [name for name in one.columns if name != "cell_id"]
    sides = [rows[columns].sort_values(columns, ignore_index=True) for rows in (one, other)]
    return bool(sides[0].equals(sides[1]))


@dataclass(frozen=True)
class Looks:
    """Both looks at the times of a cell: the screen, and the confirmation where there was one."""

    cell: str
    metric: str
    base: float | None
    candidate: float | None
    screen: Decided
    confirmation: Decided | None
    pooled: Decided | None = None


def steady(control: Contest) -> bool:
    """Whether an A/A control, a base against itself, did not change."""
    return control.change() not in (Change.REGRESSED, Change.IMPROVED)


def timed(looks: list[Looks], *, steady: bool) -> list[Line]:
    """Lines of what pairs said.

    Confirmed regressions stand where Benjamini's and Hochberg's procedure over all of them leaves them; and only where
    the machine was `steady`: an A/A control that changed says that tonight's changes are the machine's.
    """
    changes = [both(one.screen, one.confirmation, one.pooled) for one in looks]
    red = [at for at, change in enumerate(changes) if change is Change.REGRESSED]
    ps = [p_value(last.found, last.margin) for at in red if (last := looks[at].confirmation) is not None]
    stands_ = dict(zip(red, suspects(ps, CONFIRM_ALPHA), strict=True))
    return [
        _timed(one, change, real=stands_.get(at, True), steady=steady)
        for at, (one, change) in enumerate(zip(looks, changes, strict=True))
    ]


def _timed(looks: Looks, change: Change, *, real: bool, steady: bool) -> Line:
    last = looks.confirmation or looks.screen
    why = ""
    verdict = OF_CHANGE[change]
    if verdict in (Verdict.WORSE, Verdict.BETTER) and not steady:
        verdict, why = Verdict.UNDECIDED, "the A/A control beside it changed too: the machine did, not this cell"
    elif verdict is Verdict.WORSE and not real:
        verdict, why = Verdict.UNDECIDED, "does not stand among as many comparisons"
    elif change is Change.UNDECIDED and (word := _noticed(looks.screen)):
        why = f"{word}, not confirmed" if looks.confirmation else f"{word}; no time was left to confirm it"
    visible = None if pd.isna(looks.screen.visible) else looks.screen.visible
    return Line(
        looks.cell, looks.metric, verdict, looks.base, looks.candidate, last.found.ratio(), last.margin, visible, why
    )


def _noticed(screen: Decided) -> str:
    """What a first look made of a cell that a second one was to confirm."""
    if screen.change in (Change.REGRESSED, Change.IMPROVED):
        return "seen"
    return "suspected" if screen.suspect else ""


def regressed(lines: list[Line]) -> list[Line]:
    """What makes a check fail."""
    return [line for line in lines if line.verdict is Verdict.WORSE]

"""Each machine of the history: what it last measured, when and with which versions, and whether it is on time.

A page is read long after it was written, and equal histories give equal pages.  So "now" is when the newest run of the
whole history began, and a machine is late against that: one that has stopped is told by those that go on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from statistics import median

import duckdb

from bench.grid import matrix
from bench.grid.matrix import Matrix
from bench.history import drift, reading
from bench.history.drift import Drift, Facts, Gone, Night
from bench.reasons import Status

FEWEST = 3
"""Runs of a sweep from which it has a rhythm."""
RECENT = 20
"""Gaps between runs that the rhythm is made of: the newest ones, so that a machine may come to run more seldom."""
FORGIVEN, GIVEN_UP = 2.0, 10.0
"""Usual gaps without a run after which a sweep is overdue, and after which its machine has disappeared."""
_DAY = 86400.0


class State(StrEnum):
    """Whether a machine takes a sweep as often as it used to."""

    CURRENT = "current"
    OVERDUE = "overdue"
    DISAPPEARED = "disappeared"
    OCCASIONAL = "occasional"
    """It has too few runs to have a rhythm."""


@dataclass(frozen=True)
class Habit:
    """A sweep as a machine takes it: its newest run of so many, since which day, and the cells that are missing now.

    `every` are the days between runs, at least one, None where they are too few to tell; `silent` those since the
    newest.
    """

    newest: Night
    runs: int
    first: str
    every: float | None
    silent: float
    gone: tuple[Gone, ...]

    @property
    def state(self) -> State:
        """Whether it is on time."""
        if self.every is None:
            return State.OCCASIONAL
        if self.silent <= FORGIVEN * self.every:
            return State.CURRENT
        return State.OVERDUE if self.silent <= GIVEN_UP * self.every else State.DISAPPEARED


@dataclass(frozen=True)
class Measured:
    """An option on a target as a machine last measured it: in which run, its precisions there, and with what.

    `version` is what the runtime said of itself, empty where it says nothing; `family` is the environment it ran in,
    empty where the matrix does not know the option.  It `is_gone` where a newer run of the same sweep has none of it.
    """

    target: str
    option: str
    precisions: tuple[str, ...]
    cells: int
    night: Night
    version: str
    family: str
    is_gone: bool


@dataclass(frozen=True)
class Installed:
    """The packages of an environment, as a machine last used it: names and versions, and the run that recorded them."""

    family: str
    night: Night
    packages: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Machine:
    """A machine: what it is called, facts of its newest run, its sweeps, options and environments, each in order."""

    key: str
    name: str
    facts: Mapping[str, str]
    newest: Night
    habits: tuple[Habit, ...]
    measured: tuple[Measured, ...]
    installed: tuple[Installed, ...]


def load(base: duckdb.DuckDBPyConnection, found: Drift, matrices: Path) -> tuple[Machine, ...]:
    """Every machine of the history with a run that says when it began, in order of their keys."""
    grid, rows = matrix.load(matrices), _newest(base)
    by_run, last = {night.run_id: night for night in found.nights}, {night.machine: night for night in found.nights}
    facts = drift.facts(base, {row.run_id for row in rows} | {night.run_id for night in last.values()})
    habits = _habits(found)
    newest = {habit.newest.run_id for each in habits.values() for habit in each}
    measured: dict[str, list[Measured]] = {}
    for row in rows:
        measured.setdefault(row.machine, []).append(_measured(row, by_run[row.run_id], newest, grid))
    return tuple(
        Machine(
            key,
            night.machine_name,
            {name: value for (scope, name), value in facts.get(night.run_id, {}).items() if scope == "machine"},
            night,
            tuple(habits[key]),
            tuple(sorted(measured.get(key, ()), key=lambda one: _place(one, grid))),
            tuple(_installed(measured.get(key, ()), facts, grid)),
        )
        for key, night in sorted(last.items())
    )


def rhythm(began: Sequence[datetime]) -> float | None:
    """Usual days between runs that began then, in order: the median of the newest gaps, at least one day.

    Runs of one afternoon are no rhythm.  None where they are too few.
    """
    if len(began) < FEWEST:
        return None
    gaps = [(after - before).total_seconds() / _DAY for before, after in pairwise(began)]
    return max(1.0, median(gaps[-RECENT:]))


def _habits(found: Drift) -> dict[str, list[Habit]]:
    """The sweeps of each machine, by its key."""
    groups: dict[tuple[str, str], list[Night]] = {}
    for night in found.nights:
        groups.setdefault((night.machine, night.sweep), []).append(night)
    habits: dict[str, list[Habit]] = {}
    for (key, _), nights in sorted(groups.items()):
        every, silent = rhythm([night.started for night in nights]), found.nights[-1].started - nights[-1].started
        gone = found.gone[nights[-1].run_id]
        habit = Habit(nights[-1], len(nights), nights[0].day, every, silent.total_seconds() / _DAY, gone)
        habits.setdefault(key, []).append(habit)
    return habits


@dataclass(frozen=True)
class _Row:
    machine: str
    run_id: str
    target: str
    option: str
    precisions: tuple[str, ...]
    cells: int
    version: str


def _newest(base: duckdb.DuckDBPyConnection) -> list[_Row]:
    """For each machine, target and option the newest run that measured it, with what it measured of it."""
    query = f"""
        select r.machine, r.run_id, c.target, c.option,
               list(distinct c."precision" order by c."precision") as precisions, count(*) as cells,
               first(c.attested order by c.cell_id) as attested
        from cells c join runs r on r.machine = c.machine and r.period = c.period and r.run_id = c.run_id
        where c.status = '{Status.MEASURED.value}' and r.started is not null
        group by r.machine, r.run_id, r.started, c.target, c.option
        qualify row_number() over
            (partition by r.machine, c.target, c.option order by r.started desc, r.run_id desc) = 1
    """  # noqa: S608 - a word of ours
    return [
        _Row(
            row["machine"],
            row["run_id"],
            row["target"],
            row["option"],
            tuple(row["precisions"]),
            row["cells"],
            _version(row["attested"]),
        )
        for row in reading.table(base, query).to_pylist()
    ]


def _version(attested: str | None) -> str:
    """The version that a runtime attested of itself; empty where it says none."""
    return str(json.loads(attested or "{}").get("version") or "")


def _measured(row: _Row, night: Night, newest: AbstractSet[str], grid: Matrix) -> Measured:
    option = grid.options.get(row.option)
    family = "" if option is None else option.environments.get(row.target, option.environment)
    is_gone = night.run_id not in newest
    return Measured(row.target, row.option, row.precisions, row.cells, night, row.version, family, is_gone)


def _place(one: Measured, grid: Matrix) -> tuple[str, int, str]:
    """Targets by name, and of each the options in the order of the tables."""
    order = list(grid.options)
    return one.target, order.index(one.option) if one.option in order else len(order), one.option


def _installed(measured: Sequence[Measured], facts: Facts, grid: Matrix) -> Iterator[Installed]:
    """The environments that options ran in and were exported with, each as the newest of their runs recorded it."""
    newest: dict[str, Night] = {}
    for one in measured:
        for scope in drift.scopes(one.option, grid) or ():
            known, recorded = newest.get(scope), (scope, "packages") in facts.get(one.night.run_id, {})
            if recorded and (known is None or known.started < one.night.started):
                newest[scope] = one.night
    for scope, night in sorted(newest.items()):
        told = facts[night.run_id][scope, "packages"]
        yield Installed(scope.partition(":")[2], night, tuple(drift.pins(told) or ()))

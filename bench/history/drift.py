"""What moved in the history, when, and what else changed that night; and what was measured before and no longer is.

Advice: a step in a series of nights says where to look, and nothing becomes red by it.  Whether a version made a cell
slower is for `yolo11-bench check` and `ab` to say, which time both sides in the same minutes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np

from bench.grid import matrix, tolerances
from bench.grid.matrix import Matrix
from bench.history import reading, series
from bench.history.series import PACE, Place, Series
from bench.reasons import Status
from bench.stats.drift import Step, steps

PACE_MARGIN = 0.1
"""Of the pace of a machine smaller steps are not told: its hours differ by as much."""
_VOLATILE = {("machine", "cpu_mhz"), ("machine", "cpu_affinity"), ("machine", "cpu_flags"), ("machine", "memory_bytes")}
"""Facts of a machine that differ from one run to the next, or are a list of no use to a reader."""
_INSTALLED = ("env:", "js:")
"""What the scopes of packages begin with: of Python, and of a page."""
_OF_THE_RUN = ("commit", "model_sha256", "data_sha256", "images")
"""Facts of a run that a figure may depend on."""


@dataclass(frozen=True)
class Night:
    """A run as the history tells of it."""

    run_id: str
    machine: str
    machine_name: str
    started: datetime
    sweep: str
    model: str
    commit: str
    cells: int
    measured: int
    samples: int
    link: str

    @property
    def day(self) -> str:
        """The day it began on, UTC, ISO 8601."""
        return self.started.date().isoformat()


@dataclass(frozen=True)
class Version:
    """What of a run's surroundings is another than before: where it was read, its name, and both values."""

    scope: str
    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Moved:
    """A step of a series: the last run before it, the first one after it, and what else changed between the two."""

    step: Step
    before: str
    after: str
    worse: bool
    versions: tuple[Version, ...]


@dataclass(frozen=True)
class Trend:
    """A series with the steps that were found in it; levels are in the unit of the series."""

    series: Series
    moved: tuple[Moved, ...]


@dataclass(frozen=True)
class Gone:
    """A cell that was measured before and was not in a run: what became of it there (empty: it is not in the grid)."""

    cell: str
    last: str
    status: str
    reason: str


@dataclass(frozen=True)
class Drift:
    """All that the pages tell: runs in the order they began, series with their steps, and what is missing by run."""

    nights: tuple[Night, ...]
    trends: tuple[Trend, ...]
    gone: Mapping[str, tuple[Gone, ...]]
    undated: int


def load(root: Path, matrices: Path) -> Drift:
    """Look at the whole history.  Raises UsageError and StoreError as `bench.history.reading.opened` does."""
    with reading.opened(root) as base:
        return look(base, matrices)


def look(base: duckdb.DuckDBPyConnection, matrices: Path) -> Drift:
    """The same of a history that is open.  Raises UsageError for matrices that cannot be read."""
    grid, margins = matrix.load(matrices), tolerances.load(matrices)
    nights, undated = _nights(base)
    found = series.load(base, list(margins), {night.run_id: night.started for night in nights})
    stepped = [(one, _steps(one, {name: entry.margin for name, entry in margins.items()})) for one in found]
    told = facts(base, {run for one, all_steps in stepped for step in all_steps for run in _sides(one, step)})
    trends = (Trend(one, tuple(_moved(one, step, told, grid) for step in all_steps)) for one, all_steps in stepped)
    return Drift(nights, tuple(trends), _gone(base, nights), undated)


def is_relative(metric: str) -> bool:
    """Whether changes of a metric are told as shares of it; scores are told as they are."""
    return metric != tolerances.SCORE


def versions(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> list[Version]:
    """What differs between the facts of two runs, in order; of lists of packages each package by itself."""
    one, other = _named(before), _named(after)
    return [
        Version(scope, name, one.get((scope, name), ""), other.get((scope, name), ""))
        for scope, name in sorted(one.keys() | other.keys())
        if one.get((scope, name)) != other.get((scope, name))
    ]


def missing(before: Mapping[str, str], now: Mapping[str, tuple[str, str]]) -> list[Gone]:
    """Cells that were measured `before`, by id with the run that last did, and are not now.

    `now` holds status and reason code of the cells of the run that is looked at.
    """
    return [
        Gone(cell, last, *now.get(cell, ("", "")))
        for cell, last in sorted(before.items())
        if now.get(cell, ("", ""))[0] != Status.MEASURED
    ]


def _nights(base: duckdb.DuckDBPyConnection) -> tuple[tuple[Night, ...], int]:
    names = "run_id, machine, machine_name, started, sweep, model, cells, measured, samples, link"
    query = f'select {names}, "commit" from runs order by started, run_id'  # noqa: S608 - names of ours
    found = reading.table(base, query).to_pylist()
    nights = tuple(Night(**{**row, "link": row["link"] or ""}) for row in found if row["started"] is not None)
    return nights, len(found) - len(nights)


def _steps(one: Series, margins: Mapping[str, float]) -> tuple[Step, ...]:
    """Steps in the unit of the series; those of what is relative are looked for among logs."""
    margin = PACE_MARGIN if one.metric == PACE else margins[one.metric]
    if not is_relative(one.metric):
        return steps(one.values, margin)
    if not (one.values > 0).all():
        return ()
    found = steps(np.log(one.values), math.log1p(margin))
    return tuple(Step(step.at, math.exp(step.before), math.exp(step.after), step.p_value) for step in found)


def _sides(one: Series, step: Step) -> tuple[str, str]:
    return one.runs[step.at - 1], one.runs[step.at]


Facts = Mapping[str, Mapping[tuple[str, str], str]]
"""Facts of runs, by the name of the run, then by scope and key."""


def facts(base: duckdb.DuckDBPyConnection, runs: AbstractSet[str]) -> Facts:
    """What runs recorded of their machines, the core, their environments, and what a figure of theirs rests on."""
    query = """
        select run_id, scope, "key", "value" from environment
        where run_id in (select unnest(?::varchar[]))
          and (scope in ('machine', 'core') or starts_with(scope, 'env:') or starts_with(scope, 'js:')
               or (scope = 'run' and list_contains(?, "key")))
    """
    found: dict[str, dict[tuple[str, str], str]] = {}
    if not runs:
        return found
    for row in reading.table(base, query, [sorted(runs), list(_OF_THE_RUN)]).to_pylist():
        found.setdefault(row["run_id"], {})[row["scope"], row["key"]] = row["value"]
    return found


def _moved(one: Series, step: Step, told: Facts, grid: Matrix) -> Moved:
    before, after = _sides(one, step)
    own = scopes(one.option, grid)
    changed = tuple(
        version
        for version in versions(told.get(before, {}), told.get(after, {}))
        if own is None or not version.scope.startswith(_INSTALLED) or version.scope in own
    )
    worse = (step.after > step.before) == (one.better == "lower")
    return Moved(step, before, after, worse, changed)


def scopes(name: str, grid: Matrix) -> set[str] | None:
    """Where runs record the packages that an option's figures may depend on; None where that is not known."""
    option = grid.options.get(name)
    if option is None:
        return None
    families = {option.environment, *option.environments.values(), option.export.environment}
    families |= {family for _, family in option.export.chain}
    return {f"env:{family}" for family in families} | ({f"js:{option.javascript}"} if option.javascript else set())


def _named(facts: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Facts with a name each: what is installed by package, and without what differs from run to run."""
    found: dict[tuple[str, str], str] = {}
    for (scope, key), value in facts.items():
        if (scope, key) in _VOLATILE or key == "bytes":
            continue
        listed = pins(value) if key == "packages" else None
        found |= {(scope, key): value} if listed is None else {(scope, name): version for name, version in listed}
    return found


def pins(text: str) -> list[tuple[str, str]] | None:
    """Name and version of each package of a list, of Python's (`a==1`) or npm's (`a@1`); None where it is none."""
    try:
        listed = json.loads(text)
    except ValueError:
        return None
    if not isinstance(listed, list):
        return None
    parts = (str(pin).partition("==") if "==" in str(pin) else str(pin).rpartition("@") for pin in listed)
    return [(name.strip(), version.strip()) for name, _, version in parts]


def _gone(base: duckdb.DuckDBPyConnection, nights: Sequence[Night]) -> dict[str, tuple[Gone, ...]]:
    """For each run the cells that an earlier one of its machine and sweep had measured, and it did not."""
    cells: dict[str, dict[str, tuple[str, str]]] = {}
    for row in reading.table(base, "select run_id, cell_id, status, reason_code from cells").to_pylist():
        cells.setdefault(row["run_id"], {})[row["cell_id"]] = (row["status"] or "", row["reason_code"] or "")
    measured: dict[tuple[str, str], dict[str, str]] = {}
    found = {}
    for night in nights:
        here = cells.get(night.run_id, {})
        before = measured.setdefault((night.machine, night.sweep), {})
        found[night.run_id] = tuple(missing(before, here))
        before |= {cell: night.run_id for cell, (status, _) in here.items() if status == Status.MEASURED}
    return found


def of_place(drift: Drift) -> dict[Place, list[Trend]]:
    """Series by where they are from, in order."""
    places: dict[Place, list[Trend]] = {}
    for trend in drift.trends:
        places.setdefault(trend.series.place, []).append(trend)
    return places

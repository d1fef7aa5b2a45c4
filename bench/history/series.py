"""What each cell of each machine measured run after run, as series that may be compared from night to night.

Sizes, memory and accuracy are compared as they are.  Times of different nights are not: a machine is faster in one hour
than in the next.  A cell's latency is therefore set against that of the others in the same night (the metric
`latency`), and how slow the night was for all is a series of the machine's own (the metric `pace`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

import duckdb
import numpy as np
from numpy.typing import NDArray

from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION
from bench.history import reading
from bench.measure.instruments.footprint import Footprint
from bench.measure.instruments.latency import Latency
from bench.measure.pairs import LATENCY
from bench.reasons import Status
from bench.stats.drift import yardsticks
from bench.store.tables import TIMED_ON

PACE = "pace"
"""How slow a night was for all cells of a machine, 1 being usual."""
_P50 = "latency_p50_ms"
_OF_A_MACHINE = (*Footprint.fills, *Latency.fills)
"""Metrics that are of the machine which timed a cell; where that is not the run's, they are no part of its series."""


@dataclass(frozen=True)
class Place:
    """Where a series is from: the key of a machine, a sweep, and a cell (empty: all of them)."""

    machine: str
    sweep: str
    cell: str


@dataclass(frozen=True)
class Series:
    """One figure of a cell, run after run: names of the runs in the order in which they began, and the values, (n,).

    `better` (higher or lower) is that of the metric; `option`, `target` and whether it `is_reference` are the cell's.
    """

    place: Place
    metric: str
    better: str
    option: str
    target: str
    is_reference: bool
    runs: tuple[str, ...]
    values: NDArray[np.float64]


def load(base: duckdb.DuckDBPyConnection, metrics: Sequence[str], began: Mapping[str, datetime]) -> list[Series]:
    """Series of these metrics of every measured cell, in order of machine, sweep, cell and metric.

    Of the medians of latency two are made: the latency of a cell against the others of the night, in ms of a usual
    night, and the machine's pace.  `began` says when each run did; those of which it says nothing are left out.
    """
    wanted = [_P50 if name == LATENCY else name for name in metrics]
    found = list(_series(base, wanted))
    timed = sorted((one for one in found if one.metric == _P50), key=_together)
    compared = [one for _, group in groupby(timed, _together) for one in _against_the_night(list(group), began)]
    rest = [one for one in found if one.metric != _P50]
    return sorted([*rest, *compared], key=lambda one: (*_together(one)[:2], one.place.cell, one.metric, one.target))


def _together(one: Series) -> tuple[str, str, str]:
    """What cells share that are timed in turns on the same device."""
    return one.place.machine, one.place.sweep, one.target


def _series(base: duckdb.DuckDBPyConnection, metrics: Sequence[str]) -> Iterator[Series]:
    query = f"""
        select r.machine, r.sweep, m.cell_id, m.metric, any_value(m.direction) as better, any_value(c.option) as option,
               any_value(c."precision") as "precision", any_value(c.target) as target,
               list(r.run_id order by r.started, r.run_id) as runs, list(m.value order by r.started, r.run_id) as found
        from metrics m
        join runs r on r.machine = m.machine and r.period = m.period and r.run_id = m.run_id
        join cells c on c.machine = m.machine and c.period = m.period and c.run_id = m.run_id and c.cell_id = m.cell_id
        where r.started is not null and c.status = '{Status.MEASURED.value}' and isfinite(m.value)
          and list_contains(?, m.metric)
          {_of_the_run(base)}
        group by r.machine, r.sweep, m.cell_id, m.metric
    """  # noqa: S608 - a word of ours
    for row in reading.table(base, query, [list(metrics)]).to_pylist():
        yield Series(
            Place(row["machine"], row["sweep"], row["cell_id"]),
            row["metric"],
            row["better"],
            row["option"],
            row["target"],
            (row["option"], row["precision"]) == (REFERENCE_OPTION, REFERENCE_PRECISION),
            tuple(row["runs"]),
            np.array(row["found"], np.float64),
        )


def _of_the_run(base: duckdb.DuckDBPyConnection) -> str:
    """The condition that a metric is of the run's own machine; none where all runs are of before others could time."""
    if not len(reading.table(base, "select 1 from (describe cells) where column_name = 'timed_on'")):
        return ""
    names = ", ".join(f"'{name}'" for name in _OF_A_MACHINE)
    return f"""and not (m.metric in ({names}) and exists (
            select 1 from environment e
            where e.machine = m.machine and e.period = m.period and e.run_id = m.run_id
              and e.scope = '{TIMED_ON}' || c.timed_on))"""  # noqa: S608 - names of ours


def _against_the_night(group: Sequence[Series], began: Mapping[str, datetime]) -> Iterator[Series]:
    """Latencies of cells that took turns with each other, each without what its night did to the others.

    Nights with too few others have no value; PyTorch FP32 is no yardstick, being the noisiest of all.
    """
    nights = sorted({run for one in group for run in one.runs}, key=lambda run: (began[run], run))
    column = {run: number for number, run in enumerate(nights)}
    logs = np.full((len(group) + 1, len(nights)), np.nan)  # the last is of no cell: all are others of it
    for row, one in enumerate(group):
        logs[row, [column[run] for run in one.runs]] = np.log(one.values)
    levels = yardsticks(logs, np.array([*(not one.is_reference for one in group), False]))
    for row, one in enumerate(group):
        there = [column[run] for run in one.runs]
        values = np.exp(logs[row, there] - levels[row, there])
        yield from _known(replace(one, metric=LATENCY), one.runs, values)
    pace = replace(group[0], place=replace(group[0].place, cell=""), metric=PACE, option="", is_reference=False)
    yield from _known(pace, nights, np.exp(levels[-1]))


def _known(series: Series, runs: Sequence[str], values: NDArray[np.float64]) -> Iterator[Series]:
    """The series with those of the values that there are; nothing where there are none."""
    known = np.isfinite(values)
    if known.any():
        kept = tuple(run for run, is_known in zip(runs, known, strict=True) if is_known)
        yield replace(series, runs=kept, values=values[known])

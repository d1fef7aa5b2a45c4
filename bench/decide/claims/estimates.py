"""Estimates from rows of the tables: single cells, quotients of two, and several runs of the same machine together.

Every function is pure; intervals are 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t

from bench import stats
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate

CONFIDENCE = 0.95
# Fewer launches than these say nothing of a spread.
LAUNCHES_MIN = 3
# Quantities timed once, in one fresh process.  In the reference run of this repository the same import took up to 1.9
# times as long for one cell as for another of the same environment, so a single reading is good for a factor of two.
TIMED_ONCE = ("import_ms", "load_ms", "first_inference_ms")
TIMED_ONCE_FACTOR = 2.0


def row_name(row: Any) -> str:
    """How evidence names a row of cells: RUN/CELL_ID."""
    return f"{row.run_id}/{row.cell_id}"


def latency_ratio(tables: Tables, row: Any) -> Estimate | None:
    """How many times as fast as its reference a cell is; None where it was not timed.

    Without an interval, or from too few repeats, nothing can be concluded from it.  Published ratios have no interval
    and are taken as they stand.
    """
    if pd.isna(row.latency_ratio):
        return None
    value = float(row.latency_ratio)
    low, high = _known(row.latency_ratio_low), _known(row.latency_ratio_high)
    if tables.origin == "published":
        low, high = (value, value) if low is None else (low, high)
    elif row.cell_id != row.reference_id and not _repeated(row):
        low = high = None
    return Estimate(value, low, high, (row_name(row),), day(row.started))


def quantity(tables: Tables, row: Any, column: str) -> Estimate | None:
    """A column of a cell: exact for sizes, within a factor of two for what is timed once; None where it is null."""
    value = _known(getattr(row, column))
    if value is None:
        return None
    factor = TIMED_ONCE_FACTOR if column in TIMED_ONCE and tables.origin == "measured" else 1.0
    return Estimate(value, value / factor, value * factor, (row_name(row),), day(row.started))


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """`above` / `below`, both positive.

    The two are combined as if independent, by their logarithms: half-widths on the same side add as squares (MOVER,
    Zou and Donner 2008).  Two ratios to one reference share the reference's noise, which cancels in truth and is
    counted twice here; so the interval is wider than it need be, and never too sure.
    """
    rows, dates = _together(above, below)
    value = above.value / below.value
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return Estimate(value, None, None, rows, dates)
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), rows, dates)


def over_runs(estimates: Sequence[Estimate]) -> Estimate:
    """One figure for the same cell in several runs of a machine: the median, and the hull of the intervals.

    The hull, because what differs between runs is not in any run's own interval: a verdict then needs every run.
    Runs without an interval are left out where another has one.  Raises ValueError without any estimate.
    """
    sure = [one for one in estimates if one.low is not None] or list(estimates)
    lows = [one.low for one in sure if one.low is not None]
    highs = [one.high for one in sure if one.high is not None]
    rows, date = _together(*sure)
    value = float(np.median([one.value for one in sure]))
    return Estimate(value, min(lows, default=None), max(highs, default=None), rows, date)


def time_ratio(tables: Tables, run_id: str, slow: Any, fast: Any) -> Estimate | None:
    """Time per inference of cell `slow` over that of cell `fast`, from the samples of one run; None without samples.

    Cells of one time window share its rounds, so their ratio is taken as the bench takes every ratio
    (`stats.ratio_interval`).  Otherwise the logarithms of the launches' medians are two independent samples, whose
    difference has Welch's interval.
    """
    first, second = (_launches(tables.samples_of(run_id, cell.cell_id)) for cell in (slow, fast))
    if not first.medians.size or not second.medians.size:
        return None
    rows = (row_name(slow), row_name(fast))
    date = max((found for cell in (slow, fast) if (found := day(cell.started))), default=None)
    shared = sorted(first.rounds.keys() & second.rounds.keys())
    if len({key[:2] for key in shared}) >= LAUNCHES_MIN:
        interval = stats.ratio_interval(
            _by_launch(first.rounds, shared), _by_launch(second.rounds, shared), confidence=CONFIDENCE
        )
        return Estimate(interval.value, interval.low, interval.high, rows, date)
    logs = [np.log(side.medians) for side in (first, second)]
    value = math.exp(logs[0].mean() - logs[1].mean())
    if any(len(side.medians) < LAUNCHES_MIN for side in (first, second)):
        return Estimate(value, None, None, rows, date)
    half = _welch(*logs)
    return Estimate(value, value * math.exp(-half), value * math.exp(half), rows, date)


def spread_ratio(tables: Tables, run_id: str, cell: Any, baseline: Any) -> Estimate | None:
    """p90 / p50 of a cell's latencies over that of a baseline's; None without samples.  1: both are equally steady.

    Both are taken launch by launch from the rounds that both had, so that a disturbance of the machine meets both;
    the interval is Student's t of the launches' log quotients.
    """
    first, second = (_launches(tables.samples_of(run_id, one.cell_id)) for one in (cell, baseline))
    rows, date = (row_name(cell), row_name(baseline)), day(cell.started)
    shared = sorted(first.rounds.keys() & second.rounds.keys())
    if not shared:
        return None
    samples = min(sum(len(side.rounds[key]) for key in shared) for side in (first, second))
    pairs = zip(_by_launch(first.rounds, shared), _by_launch(second.rounds, shared), strict=True)
    logs = np.array([_log_spread(own) - _log_spread(other) for own, other in pairs])
    value = math.exp(logs.mean())
    if len(logs) < LAUNCHES_MIN or samples < stats.minimum_samples(90):
        return Estimate(value, None, None, rows, date)
    half = _student(logs)
    return Estimate(value, value * math.exp(-half), value * math.exp(half), rows, date)


def tail(tables: Tables, row: Any) -> Estimate | None:
    """90th percentile of a cell's latencies in ms; None where it was not timed.

    The geometric mean of the launches' percentiles with Student's t of their logarithms.  A published time stands as
    it is printed, mostly a mean: the tail is then longer still.
    """
    if tables.origin == "published":
        ms = float(row.latency_p50_ms)
        return Estimate(ms, ms, ms, (row_name(row),), day(row.started))
    own = _launches(tables.samples_of(row.run_id, row.cell_id))
    if pd.isna(row.latency_ratio) or not own.rounds:
        return None
    launches = _by_launch(own.rounds, sorted(own.rounds))
    logs = np.array([math.log(np.percentile(np.concatenate(launch), 90)) for launch in launches])
    value, rows, date = math.exp(logs.mean()), (row_name(row),), day(row.started)
    samples = sum(len(one) for launch in launches for one in launch)
    if len(logs) < LAUNCHES_MIN or samples < stats.minimum_samples(90):
        return Estimate(value, None, None, rows, date)
    half = _student(logs)
    return Estimate(value, value * math.exp(-half), value * math.exp(half), rows, date)


_Round = tuple[int, int, int]
"""Window, launch and number of a round."""


@dataclass(frozen=True)
class _Launches:
    """Samples of a cell by round, and the median of each launch."""

    rounds: dict[_Round, NDArray[np.float64]]
    medians: NDArray[np.float64]


def _launches(samples: pd.DataFrame) -> _Launches:
    """Clean rounds where enough launches have some, else all."""
    clean = samples[~samples.contaminated.astype(bool)]
    used = clean if clean.launch.nunique() >= LAUNCHES_MIN else samples
    groups: Any = used.groupby(["window", "launch", "round"])["latency_ms"]
    rounds = {
        (int(window), int(launch), int(number)): group.to_numpy(np.float64)
        for (window, launch, number), group in groups
    }
    medians = used.groupby(["window", "launch"])["latency_ms"].median().to_numpy(np.float64)
    return _Launches(rounds, medians)


def _by_launch(rounds: dict[_Round, NDArray[np.float64]], keys: Sequence[_Round]) -> list[list[NDArray[np.float64]]]:
    launches = dict.fromkeys(key[:2] for key in keys)
    return [[rounds[key] for key in keys if key[:2] == launch] for launch in launches]


def _log_spread(rounds: Sequence[NDArray[np.float64]]) -> float:
    p50, p90 = np.percentile(np.concatenate(rounds), [50, 90])
    return math.log(p90 / p50)


def _student(values: NDArray[np.float64]) -> float:
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    return quantile * float(values.std(ddof=1)) / math.sqrt(len(values))


def _welch(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Half-width of the interval of a difference of means (Welch 1947, Satterthwaite's degrees of freedom)."""
    parts = [float(side.var(ddof=1)) / len(side) for side in (first, second)]
    total = sum(parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, (first, second), strict=True))
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(total)


def _repeated(row: Any) -> bool:
    return (_known(row.latency_launches) or 0) >= LAUNCHES_MIN


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _together(*parts: Estimate) -> tuple[tuple[str, ...], Any]:
    rows = tuple(dict.fromkeys(row for part in parts for row in part.rows))
    return rows, max((part.date for part in parts if part.date is not None), default=None)

"""Estimates from rows of the tables: cells, two of them against each other, several runs of one machine together.

Every function is pure; intervals are 95 %.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench import stats
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import CONFIDENCE, Estimate
from bench.stats import contrast
from bench.stats.contrast import LAUNCHES_MIN

READ_ONCE: Mapping[str, float] = {
    "import_ms": 2.0, "load_ms": 2.0, "first_inference_ms": 2.0, "energy_image_j": 2.0, "peak_rss_bytes": 1.1,
    "env_bytes": 1.1,
}  # fmt: skip
"""Quantities that a run may hold a single reading of, and the factor that such a reading is good for.

In the reference run of this repository the same import took up to 1.9 times as long for one cell as for another of the
same environment.  A process's peak memory and an environment's size vary less, from launch to launch and from one
release to the next, but 0.499 from one reading of each is not below a half.
"""


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
    freedom = None if low == high else _freedom(row)
    return Estimate(value, low, high, (row_name(row),), day(row.started), freedom)


def quantity(tables: Tables, row: Any, column: str) -> Estimate | None:
    """A column of a cell; None where it is null.

    With the interval over launches where the run has one.  Without: exact for artifacts, else within the factor of
    READ_ONCE.
    """
    value = _known(getattr(row, column))
    if value is None:
        return None
    rows, date = (row_name(row),), day(row.started)
    # Runs of before quantities were taken in every launch lack the columns.
    low, high = (_known(getattr(row, f"{column}{end}", None)) for end in ("_low", "_high"))
    if low is not None and high is not None:
        return Estimate(value, low, high, rows, date, _freedom(row))
    factor = READ_ONCE.get(column, 1.0) if tables.origin == "measured" else 1.0
    return Estimate(value, value / factor, value * factor, rows, date)


def quotient(above: Estimate, below: Estimate) -> Estimate:
    """`above` / `below`, both positive, of figures that were taken apart from each other.

    The two are independent and combined by their logarithms: half-widths on the same side add as squares (MOVER, Zou
    and Donner 2008); the degrees of freedom are the fewer ones.
    """
    rows, dates = _together(above, below)
    value = above.value / below.value
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return Estimate(value, None, None, rows, dates)
    down = math.hypot(math.log(above.value / above.low), math.log(below.high / below.value))
    up = math.hypot(math.log(above.high / above.value), math.log(below.value / below.low))
    return Estimate(value, value * math.exp(-down), value * math.exp(up), rows, dates, _least(above, below))


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
    return Estimate(value, min(lows, default=None), max(highs, default=None), rows, date, _least(*sure))


def time_ratio(tables: Tables, slow: Any, fast: Any) -> Estimate | None:
    """Time per inference of cell `slow` over that of cell `fast` of the same run; None where nothing compares them.

    Directly, from the rounds that both took part in.  Two that never shared a round are set against each other through
    the reference that both were interleaved with; its error is then in both of them, as two other processes of it
    were.  Published times stand as they are printed.
    """
    rows = (row_name(slow), row_name(fast))
    date = max((known for cell in (slow, fast) if (known := day(cell.started))), default=None)
    if tables.origin == "published":
        value = float(slow.latency_p50_ms) / float(fast.latency_p50_ms)
        return Estimate(value, value, value, rows, date)
    timed = tables.timings.get(slow.run_id, {})
    if slow.cell_id in timed and fast.cell_id in timed:
        found = contrast.against(timed[slow.cell_id], timed[fast.cell_id])
        if found is not None:
            return _ratio(found, rows, date)
    ratios = [latency_ratio(tables, one) for one in (fast, slow)]
    if ratios[0] is None or ratios[1] is None or slow.reference_id != fast.reference_id:
        return None
    return replace(quotient(ratios[0], ratios[1]), rows=rows, date=date)


def spread_ratio(tables: Tables, cell: Any, baseline: Any) -> Estimate | None:
    """p90 / p50 of a cell's latencies over that of a baseline's; None without samples.  1: both are equally steady.

    Both are taken launch by launch from the rounds that both had, so that a disturbance of the machine meets both; the
    interval is that of the launches' log quotients.
    """
    timed = tables.timings.get(cell.run_id, {})
    if cell.cell_id not in timed or baseline.cell_id not in timed:
        return None
    shared = contrast.shared(timed[cell.cell_id], timed[baseline.cell_id])
    if not shared:
        return None
    sides = [_launches(tables.samples_of(cell.run_id, one.cell_id), shared) for one in (cell, baseline)]
    logs = [_log_spread(own) - _log_spread(other) for own, other in zip(*sides, strict=True)]
    return _enough(_ratio(contrast.mean(logs), (row_name(cell), row_name(baseline)), day(cell.started)), *sides)


def tail(tables: Tables, row: Any) -> Estimate | None:
    """90th percentile of a cell's latencies in ms; None where it was not timed.

    The geometric mean of the launches' percentiles with Student's t of their logarithms.  A published time stands as
    it is printed, mostly a mean: the tail is then longer still.
    """
    if tables.origin == "published":
        ms = float(row.latency_p50_ms)
        return Estimate(ms, ms, ms, (row_name(row),), day(row.started))
    own = tables.timings.get(row.run_id, {}).get(row.cell_id)
    if pd.isna(row.latency_ratio) or own is None:
        return None
    launches = _launches(tables.samples_of(row.run_id, row.cell_id), contrast.shared(own, own))
    logs = [math.log(np.percentile(launch, 90)) for launch in launches]
    return _enough(_ratio(contrast.mean(logs), (row_name(row),), day(row.started)), launches)


_Launches = Sequence[NDArray[np.float64]]
"""Samples of each launch, in ms."""


def _launches(samples: pd.DataFrame, rounds: Sequence[contrast.Round]) -> _Launches:
    """A cell's samples in those rounds by launch; disturbed ones too, where the rounds were chosen with them."""
    wanted = samples[pd.MultiIndex.from_frame(samples[["window", "launch", "round"]]).isin(rounds)]
    clean = wanted[~wanted.contaminated.astype(bool)]
    keys = ["window", "launch", "round"]
    # The rounds were chosen without disturbed turns where each of them has one that is not.
    used = clean if clean[keys].drop_duplicates().shape[0] == len(rounds) else wanted
    return [group.to_numpy(np.float64) for _, group in used.groupby(["window", "launch"])["latency_ms"]]


def _log_spread(launch: NDArray[np.float64]) -> float:
    p50, p90 = np.percentile(launch, [50, 90])
    return math.log(p90 / p50)


def _ratio(found: contrast.Mean, rows: tuple[str, ...], date: datetime.date | None) -> Estimate:
    """A mean of log ratios as an estimate of the ratio."""
    interval = contrast.ratio(found, CONFIDENCE)
    return Estimate(interval.value, interval.low, interval.high, rows, date, found.freedom)


def _enough(estimate: Estimate, *sides: _Launches) -> Estimate:
    """The same; without an interval where a side has too few samples for a 90th percentile."""
    if min(sum(map(len, side)) for side in sides) >= stats.minimum_samples(90):
        return estimate
    return replace(estimate, low=None, high=None)


def _repeated(row: Any) -> bool:
    return (_known(row.latency_launches) or 0) >= LAUNCHES_MIN


def _freedom(row: Any) -> float:
    """Degrees of freedom of what was taken once in each launch of a cell."""
    return max((_known(row.latency_launches) or 0) - 1, 1)


def _least(*parts: Estimate) -> float | None:
    return min((one.freedom for one in parts if one.freedom is not None), default=None)


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _together(*parts: Estimate) -> tuple[tuple[str, ...], Any]:
    rows = tuple(dict.fromkeys(row for part in parts for row in part.rows))
    return rows, max((part.date for part in parts if part.date is not None), default=None)

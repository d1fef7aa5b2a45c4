"""The measured columns: a row per option and precision of comparable cells, and the runs behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.decide.claims.estimates import latency_ratio, over_runs, row_name
from bench.decide.claims.tables import Tables, day
from bench.decide.claims.verdicts import Estimate
from bench.grid.matrix import Matrix
from bench.reasons import Status
from bench.report.views import Value
from bench.words.locale import Locale
from bench.words.numbers import MISSING, gigabytes, interval, megabytes, number, precision_name, significant, times


@dataclass(frozen=True)
class Column:
    """A column of the summary: the key of its title, its unit, and whether it is text or num."""

    key: str
    unit: str
    kind: str


@dataclass(frozen=True)
class Row:
    """An option at a precision: its cells' values, and the rows that they are from."""

    option: str
    values: tuple[Value, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """Rows that may be compared: one machine, model, image size and batch."""

    machine: str
    model: str
    imgsz: int
    batch: int
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class RunFacts:
    """A run as the site introduces it; texts are empty where the run does not say."""

    run_id: str
    machine: str
    processor: str
    processors: str
    memory: str
    system: str
    measured: int
    total: int
    images: str
    date: str


COLUMNS = (
    Column("option", "", "text"),
    Column("precision", "", "text"),
    Column("where", "", "text"),
    Column("ratio", "", "num"),
    Column("map", "0..1", "num"),
    Column("delta", "", "num"),
    Column("size", "MB", "num"),
    Column("environment", "MB", "num"),
    Column("memory", "MB", "num"),
    Column("load", "ms", "num"),
    Column("first", "ms", "num"),
)


def summaries(tables: Tables, matrix: Matrix, locale: Locale, option: str = "") -> tuple[Summary, ...]:
    """Every group of comparable cells in order of machine, model, size and batch; of one option where it is named."""
    groups: dict[tuple[str, str, int, int], list[Any]] = {}
    for cell in tables.cells:
        if option in ("", cell.option):
            groups.setdefault((cell.machine, cell.model, int(cell.imgsz), int(cell.batch)), []).append(cell)
    order = {name: index for index, name in enumerate(matrix.options)}
    result = []
    for key in sorted(groups):
        by_row: dict[tuple[int, str, str], list[Any]] = {}
        for cell in groups[key]:
            place = (order.get(cell.option, len(order)), cell.option, cell.precision)
            by_row.setdefault(place, []).append(cell)
        most = max(_images(cell) for cell in groups[key])
        rows = tuple(_row(tables, matrix, locale, by_row[place], most) for place in sorted(by_row))
        result.append(Summary(*key, rows))
    return tuple(result)


def runs(tables: Tables, run_ids: Sequence[str]) -> tuple[RunFacts, ...]:
    """What each run says of itself and its machine."""
    return tuple(_run(tables, run_id) for run_id in run_ids)


def machines(tables: Tables) -> list[str]:
    """Names of the machines of all runs, in order."""
    return sorted(set(tables.grid.machine) - {""})


def newest(tables: Tables) -> str:
    """Day of the newest measurement, ISO 8601, or an en dash."""
    dates = [found for row in tables.cells if (found := day(row.started)) is not None]
    return max(dates).isoformat() if dates else MISSING


def _row(tables: Tables, matrix: Matrix, locale: Locale, cells: list[Any], most: int) -> Row:
    """The row of the target and thread count with the best ratio; of one without any ratio, the first.

    Its accuracy is that of most images on the target, whatever the threads, and says so where they are fewer than
    `most`: a run that only times something is evaluated on a handful.
    """
    places: dict[tuple[str, int], list[Any]] = {}
    for cell in cells:
        places.setdefault((cell.target, int(cell.threads)), []).append(cell)
    ratios = {place: _ratio(tables, group) for place, group in places.items()}
    best = min(sorted(places), key=lambda place: -one.value if (one := ratios[place]) else 0.0)
    group, ratio = places[best], ratios[best]
    newest_first = sorted(group, key=lambda cell: (str(cell.started), cell.run_id), reverse=True)
    cell = newest_first[0]
    evaluated = max(
        (one for one in cells if one.target == best[0]),
        key=lambda one: (_images(one), str(one.started), one.run_id),
    )
    few = locale("measurements.evaluated", n=_images(evaluated)) if _images(evaluated) < most else ""

    def latest(column: str) -> float | None:
        return next((float(v) for row in newest_first if not pd.isna(v := getattr(row, column))), None)

    entry = matrix.options.get(cell.option)
    outside = "" if entry is None or entry.in_guide else locale("measurements.outside_guide")
    precision = None if entry is None else entry.precisions.get(cell.precision)
    told = precision.told(locale.language) if precision else ""
    threads = locale("measurements.threads", n=best[1]) if best[1] else ""
    called = tables.words.target_names.get(cell.target)
    where = locale.pick(called) if called else ""
    name = tables.name(cell.option)
    values = (
        Value(name, name, outside),
        Value(precision_name(cell.precision), cell.precision, meaning=told),
        Value(cell.target, cell.target, threads, meaning=where),
        _ratio_value(ratio, locale),
        replace(_plain(_known(evaluated.map50_95), lambda value: number(value, 4)), note=few),
        _delta(*(_known(getattr(evaluated, f"map_delta{end}")) for end in ("", "_low", "_high"))),
        *(_plain(megabytes(latest(column)), significant) for column in ("size_bytes", "env_bytes", "peak_rss_bytes")),
        *(_plain(latest(column), lambda value: number(value, 0)) for column in ("load_ms", "first_inference_ms")),
    )
    return Row(cell.option, values, tuple(sorted({row_name(one) for one in (*group, evaluated)})))


def _images(cell: Any) -> int:
    return 0 if pd.isna(cell.images) else int(cell.images)


def _known(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _ratio(tables: Tables, cells: list[Any]) -> Estimate | None:
    found = [estimate for cell in cells if (estimate := latency_ratio(tables, cell)) is not None]
    return over_runs(found) if found else None


def _ratio_value(ratio: Estimate | None, locale: Locale) -> Value:
    if ratio is None:
        return Value(locale("measurements.untimed"))
    mark = ""
    if ratio.low is not None and ratio.high is not None:
        mark = "better" if ratio.low > 1 else "worse" if ratio.high < 1 else ""
    exact = ratio.low == ratio.high
    note = "" if exact else interval(ratio.low, ratio.high, 2)
    return Value(times(ratio.value), repr(ratio.value), note, mark)


def _delta(value: float | None, low: float | None, high: float | None) -> Value:
    if value is None:
        return Value(MISSING)
    mark = "worse" if high is not None and high < 0 else "better" if low is not None and low > 0 else ""
    exact = low == high
    return Value(number(value, 4, sign=True), repr(value), "" if exact else interval(low, high, 4, sign=True), mark)


def _plain(value: float | None, write: Callable[[float], str]) -> Value:
    return Value(MISSING) if value is None else Value(write(value), repr(value))


def _run(tables: Tables, run_id: str) -> RunFacts:
    environment = tables.environment[(tables.environment.run_id == run_id) & (tables.environment.scope == "machine")]
    facts = dict(zip(environment.key, environment.value, strict=True))
    rows = [row for row in tables.rows if row.run_id == run_id]
    measured = [row for row in rows if row.status == Status.MEASURED.value]
    images = [int(row.images) for row in measured if not pd.isna(row.images)]
    dates = [found for row in measured if (found := day(row.started)) is not None]
    memory = gigabytes(facts.get("memory_bytes", ""))
    return RunFacts(
        run_id=run_id,
        machine=str(environment.machine.iloc[0]) if len(environment) else "",
        processor=facts.get("cpu", ""),
        processors=facts.get("cpu_cores_logical", ""),
        memory=f"{memory} GB" if memory else "",
        system=facts.get("system", ""),
        measured=len(measured),
        total=len(rows),
        images=str(max(images)) if images else "",
        date=max(dates).isoformat() if dates else "",
    )

"""Questions to the history, answered by DuckDB: views of its tables, and the rows that filters leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from bench.history import layout, merging
from bench.history.commits import held
from bench.history.layout import SCHEMAS
from bench.reasons import StoreError, UsageError

Name = Literal["runs", "cells", "metrics", "samples", "launches", "environment"]

_OF_A_CELL = ("cells", "metrics", "samples", "launches")
_BATCH = 2**16
"""Rows of a piece."""
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Nothing installs itself."""


@dataclass(frozen=True)
class Filters:
    """Which rows are meant; what is empty or None leaves none out.

    `machine` is a part of a machine's key or name, any case; `since` and `until` are days, both included.
    """

    machine: str = ""
    sweep: str = ""
    model: str = ""
    run: str = ""
    cell: str = ""
    options: Sequence[str] = ()
    precisions: Sequence[str] = ()
    metrics: Sequence[str] = ()
    since: date | None = None
    until: date | None = None


@contextmanager
def opened(root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The history with a view for each of its tables; nobody adds to it meanwhile.

    Raises UsageError where there is none, or one of an older schema; StoreError for what DuckDB cannot read.
    """
    merging.require(root)
    with held(root):
        merging.require_present(root)
        with duckdb.connect(config=_SETTINGS) as base:
            try:
                for name in SCHEMAS:
                    base.execute(f"create view {name} as select * from {_files(root, name)}")  # noqa: S608 - as above
                yield base
            except duckdb.Error as error:
                raise StoreError(f"{root}: DuckDB cannot answer: {error}") from error


def rows(base: duckdb.DuckDBPyConnection, name: Name, filters: Filters, limit: int = 0) -> Iterator[pa.RecordBatch]:
    """Rows of a table with the machine, name and start of their runs before them, newest runs first; in pieces.

    `limit` is the most rows, 0 for all.  Raises UsageError for a filter that the table has no column for.
    """
    conditions, values = _conditions(name, filters)
    where = f" where {' and '.join(conditions)}" if conditions else ""
    most = f" limit {limit:d}" if limit else ""
    # What names a run stands before its own columns, in every table.
    query = (
        f"select r.machine, r.machine_name, r.started, {_columns(name)} "  # noqa: S608 - names of ours
        f"from runs r{_join(name, filters)}{where} "
        f"order by r.started desc nulls last, r.run_id{_order(name)}{most}"
    )
    yield from base.sql(query, params=values).to_arrow_reader(_BATCH)


def table(base: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any] = ()) -> pa.Table:
    """What a query gives; the values stand for its question marks."""
    return base.sql(query, params=list(values)).to_arrow_table()


def columns(name: Name) -> list[str]:
    """Names of the columns that `rows` gives."""
    return ["machine", "machine_name", "started", *_own(name)]


def _own(name: Name) -> list[str]:
    own = [column for column in SCHEMAS[name].names if column not in ("machine_name", "started")]
    return [*own, "cell_started"] if name == "cells" else own


def _columns(name: Name) -> str:
    if name == "runs":
        return ", ".join(f'r."{column}"' for column in _own(name))
    return ", ".join("t.started as cell_started" if one == "cell_started" else f't."{one}"' for one in _own(name))


def _join(name: Name, filters: Filters) -> str:
    if name == "runs":
        return ""
    joined = f" join {name} t on t.machine = r.machine and t.period = r.period and t.run_id = r.run_id"
    if name in _OF_A_CELL and name != "cells" and (filters.options or filters.precisions):
        joined += " join cells c on c.machine = r.machine and c.period = r.period and c.run_id = r.run_id"
        joined += " and c.cell_id = t.cell_id"
    return joined


def _order(name: Name) -> str:
    """Rows of a run in an order that is always the same."""
    return {
        "runs": "",
        "cells": ", t.cell_id",
        "metrics": ", t.cell_id, t.metric",
        "samples": ', t.cell_id, t."window", t.launch, t.round, t."order", t."index"',
        "launches": ', t.cell_id, t."window", t.launch',
        "environment": ', t.scope, t."key"',
    }[name]


def _conditions(name: Name, filters: Filters) -> tuple[list[str], list[Any]]:
    """Conditions of a query with the values for their question marks."""
    cell = "t" if name == "cells" else "c"
    for option, given in (("cell", filters.cell), ("options", filters.options), ("precisions", filters.precisions)):
        if given and name not in _OF_A_CELL:
            raise UsageError(f"--{option}: the table {name} is not about cells; leave it out, or ask for another table")
    if filters.metrics and name != "metrics":
        raise UsageError(f"--metrics: the table {name} has none; ask for --table metrics")
    found: list[tuple[str, list[Any]]] = []
    if filters.machine:
        part = filters.machine.lower()
        found.append(("(contains(r.machine, ?) or contains(lower(r.machine_name), ?))", [part, part]))
    found += [(f"r.{name_} = ?", [value]) for name_, value in _exact(filters) if value]
    if filters.cell:
        found.append(("contains(t.cell_id, ?)", [filters.cell]))
    several = (("option", filters.options), ("precision", filters.precisions))
    found += [(f"list_contains(?, {cell}.{column})", [list(values)]) for column, values in several if values]
    if filters.metrics:
        found.append(("list_contains(?, t.metric)", [list(filters.metrics)]))
    if filters.since is not None:
        found.append(("epoch_ms(r.started) >= ?", [_milliseconds(filters.since)]))
    if filters.until is not None:
        found.append(("epoch_ms(r.started) < ?", [_milliseconds(filters.until + timedelta(days=1))]))
    return [condition for condition, _ in found], [value for _, values in found for value in values]


def _milliseconds(day: date) -> int:
    """When a day begins, UTC, in ms since 1970."""
    return 86_400_000 * (day - date(1970, 1, 1)).days


def _exact(filters: Filters) -> tuple[tuple[str, str], ...]:
    return (("sweep", filters.sweep), ("model", filters.model), ("run_id", filters.run))


def _files(root: Path, name: str) -> str:
    """The files of a table, as DuckDB reads them."""
    paths = [root / one.path / f"{name}.parquet" for one in layout.partitions(root)]
    listed = ", ".join(_quoted(str(path)) for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = true, hive_types_autocast = false, union_by_name = true)"


def _quoted(text: str) -> str:
    """A text in SQL; what would be a pattern in the name of a file stands for itself."""
    literal = "".join(f"[{character}]" if character in "*?[" else character for character in text)
    return "'" + literal.replace("'", "''") + "'"

"""Rows of the history: a table that fits the terminal, and files for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from bench.files import replacing
from bench.reasons import StoreError
from bench.words.fitted import Column, print_fitted
from bench.words.locale import Locale
from bench.words.markdown import escaped
from bench.words.numbers import MISSING, clean, megabytes, number, significant

Form = Literal["csv", "json", "markdown", "parquet"]
Shown = Literal["runs", "cells", "metrics"]
Row = Mapping[str, Any]


def print_rows(table: Shown, rows: Sequence[Row], console: Console, t: Locale) -> None:
    """Print rows of a table, as `bench.history.reading.rows` has them, or that there are none."""
    if not rows:
        console.print(t("history.none"))
        return
    print_fitted(
        rows,
        _columns(t)[table],
        console,
        name=lambda row: f"{_day(row)} {_text(row, 'run_id')}",
        left_out=lambda titles: t("left_out", columns=t("separator").join(titles)),
        colon=t("colon"),
    )
    for key, name in sorted({(str(row["machine"]), str(row["machine_name"])) for row in rows}):
        console.print(Text(f"{key}{t('colon')}{clean(name)}", style="dim"))


def write(rows: Iterable[pa.RecordBatch], columns: Sequence[str], form: Form, path: Path) -> None:
    """Write rows into a file, which takes its place when it is whole.  Raises StoreError where the disk refuses."""
    try:
        with replacing(path.absolute()) as sink:
            if form == "parquet":
                _parquet(rows, sink)
            else:
                for piece in text(rows, columns, form):
                    sink.write(piece.encode("utf-8", "replace"))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def text(
    rows: Iterable[pa.RecordBatch], columns: Sequence[str], form: Literal["csv", "json", "markdown"]
) -> Iterator[str]:
    """Rows as text, piece by piece: one JSON list of objects, a Markdown table, or CSV with a head."""
    every = (row for batch in rows for row in batch.to_pylist())
    if form == "json":
        separator = "[\n"
        for row in every:
            yield separator + json.dumps(row, default=_plain, ensure_ascii=False)
            separator = ",\n"
        yield "[]\n" if separator == "[\n" else "\n]\n"
    elif form == "markdown":
        yield f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
        for row in every:
            yield f"| {' | '.join(escaped(_said(row[name])) for name in columns)} |\n"
    else:
        yield _csv(columns)
        for row in every:
            yield _csv([_said(row[name]) for name in columns])


def _parquet(rows: Iterable[pa.RecordBatch], sink: Any) -> None:
    writer = None
    for batch in rows:
        writer = writer or pq.ParquetWriter(sink, batch.schema, compression="zstd")
        writer.write_batch(batch)
    if writer is None:
        raise StoreError("no row is left by these filters, and a Parquet file without any would have no columns")
    writer.close()


def _csv(values: Sequence[str]) -> str:
    sink = io.StringIO()
    csv.writer(sink, lineterminator="\n").writerow(values)
    return sink.getvalue()


def _said(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (datetime, list, dict)):
        return _plain(value) if isinstance(value, datetime) else json.dumps(value, default=_plain)
    return str(value)


def _plain(value: Any) -> str:
    """What JSON has no type for."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _text(row: Row, name: str) -> str:
    return clean(str(row[name])) if row[name] is not None else MISSING


def _status(row: Row, t: Locale) -> str:
    """A status in words; one of a later version as it is stored."""
    return t.strings.get(f"status.{row['status']}", _text(row, "status"))


def _day(row: Row) -> str:
    started: datetime | None = row["started"]
    return MISSING if started is None else f"{started:%Y-%m-%d %H:%M}"


def _columns(t: Locale) -> Mapping[Shown, Sequence[Column[Row]]]:
    """Columns of each table in order."""

    def column(name: str, text: Callable[[Row], str], drop: int = 0, *, right: bool = True) -> Column[Row]:
        return Column(t(f"history.column.{name}"), text, drop, right)

    def left(name: str, key: str, drop: int = 0) -> Column[Row]:
        return column(name, lambda row: _text(row, key), drop, right=False)

    begun = column("began", _day, right=False)
    return {
        "runs": (
            begun,
            left("machine", "machine"),
            left("sweep", "sweep", 4),
            left("model", "model", 6),
            column("measured", lambda row: t("history.measured", measured=row["measured"], cells=row["cells"])),
            column("samples", lambda row: number(row["samples"], 0), 5),
            column("commit", lambda row: _text(row, "commit")[:10], 7, right=False),
            left("run", "run_id", 3),
            left("link", "link", 9),
        ),
        "cells": (
            begun,
            left("machine", "machine", 2),
            left("cell", "cell_id"),
            column("status", lambda row: _status(row, t), right=False),
            column("map", lambda row: number(row["map50_95"], 4)),
            column("p50", lambda row: number(row["latency_p50_ms"], 2), 3),
            column("ratio", lambda row: number(row["latency_ratio"], 2)),
            column("size", lambda row: number(megabytes(row["size_bytes"]), 1), 5),
            column("rss", lambda row: number(megabytes(row["peak_rss_bytes"]), 0), 6),
            left("run", "run_id", 7),
        ),
        "metrics": (
            begun,
            left("machine", "machine", 2),
            left("cell", "cell_id"),
            left("metric", "metric"),
            column("value", lambda row: significant(row["value"], 5)),
            column("low", lambda row: significant(row["low"], 5), 4),
            column("high", lambda row: significant(row["high"], 5), 4),
            left("unit", "unit", 3),
            left("run", "run_id", 7),
        ),
    }

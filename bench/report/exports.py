"""The comparison for other programs: Markdown for a step summary, CSV for a spreadsheet, JSON for a script."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, Literal

from bench.decide.timings import own, timings
from bench.report.tables import comparison
from bench.report.views import Table, Value
from bench.store.reading import Run
from bench.words.locale import Language, texts
from bench.words.markdown import escaped

Format = Literal["markdown", "csv", "json"]


def export(run: Run, form: Format, language: Language) -> str:
    """The table of measured cells.  Markdown has the words of the report; the others plain numbers under ids."""
    table = comparison(run, own(run, timings(run.samples)), texts("report", language))
    if form == "markdown":
        return _markdown(run, table)
    rows = [_plain(run, cell.cell_id) for cell, _ in table.rows]
    if form == "json":
        return json.dumps({"run_id": run.run_id, "cells": rows}, ensure_ascii=False, indent=1) + "\n"
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]) if rows else ["cell_id"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return sink.getvalue()


_PLAIN = (
    "cell_id", "option", "precision", "target", "model", "imgsz", "batch", "threads", "compute",
    "map50_95", "map_delta", "map_delta_low", "map_delta_high",
    "latency_p50_ms", "latency_ratio", "latency_ratio_low", "latency_ratio_high",
    "size_bytes", "env_bytes", "peak_rss_bytes", "load_ms", "first_inference_ms", "timed_on",
)  # fmt: skip


def _plain(run: Run, cell_id: str) -> dict[str, Any]:
    cell = next(one for one in run.cells if one.cell_id == cell_id)
    return {**{name: getattr(cell, name) for name in _PLAIN}, "machine": run.machine_name(cell)}


def _markdown(run: Run, table: Table) -> str:
    titles = [f"{column.title} ({column.unit})" if column.unit else column.title for column in table.columns]
    kinds = ["---:" if column.kind == "num" else "---" for column in table.columns]
    rows = [[_text(value) for value in values] for _, values in table.rows]
    lines = [titles, kinds, *rows]
    return f"### {escaped(run.run_id)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _text(value: Value) -> str:
    return escaped(f"{value.text} {value.note}".strip())

"""Numbers that others have published, as tables that the checks can look at: `matrices/published/*.toml`.

A page's table becomes one run per piece of hardware, because only what was taken together may be compared.  Ratios
are those of the printed times to the printed PyTorch FP32 of the same hardware; nothing else is added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import Field, PositiveFloat, PositiveInt

from bench import store
from bench.decide.claims.tables import ORDER, Tables, Vocabulary
from bench.grid import entries
from bench.grid.entries import Entry
from bench.grid.matrix import REFERENCE_OPTION, REFERENCE_PRECISION, Matrix
from bench.grid.schema import Identifier
from bench.places import MATRICES
from bench.reasons import Status, UsageError

PUBLISHED = MATRICES / "published"
# Ultralytics prints file sizes in units of 2**20 bytes and calls them MB; to a digit it makes no difference here.
MEGABYTE = 2**20


class Row(Entry):
    """A row of a printed table."""

    model: Identifier = "yolo11n"
    option: Identifier
    precision: Identifier
    target: str = Field(default="", description="empty: that of the hardware")
    ms: PositiveFloat = Field(description="time per image as printed")
    ms_spread: float | None = Field(default=None, ge=0, description="what is printed after the sign ±")
    map50_95: float | None = Field(default=None, ge=0, le=1)
    size_mb: PositiveFloat | None = None


class Hardware(Entry):
    """A machine of the page and its rows."""

    name: str
    target: Identifier
    reference_target: str = Field(default="", description="target of the PyTorch FP32 row; empty: the same")
    rows: tuple[Row, ...] = Field(min_length=1)


class Model(Entry):
    """Size of a model as printed."""

    parameters_m: PositiveFloat = Field(description="parameters, millions")
    gflops: PositiveFloat


class Page(Entry):
    """A page's tables: where they stand, which revision, and what they were measured on."""

    source: str
    version: str
    imgsz: PositiveInt
    images: PositiveInt | None = Field(default=None, description="images that mAP was taken on, where it is said")
    models: dict[Identifier, Model] = Field(default_factory=dict)
    hardware: tuple[Hardware, ...] = Field(min_length=1)


def load_pages(directory: Path = PUBLISHED) -> dict[str, Page]:
    """Pages by file name.  Raises UsageError naming file and key, also for a row that stands twice in one table."""
    pages = {path.stem: entries.parse(Page, entries.read(path), path) for path in sorted(directory.glob("*.toml"))}
    for stem, page in pages.items():
        for hardware in page.hardware:
            keys = [(row.model, row.option, row.precision, row.target or hardware.target) for row in hardware.rows]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise UsageError(f"{directory / stem}.toml: {hardware.name}: {'-'.join(twice[0])} stands there twice")
    return pages


def load(matrix: Matrix, directory: Path | None = None) -> Tables:
    """The published numbers as tables of origin `published`; without a folder of them the tables are empty."""
    pages = load_pages(directory or matrix.directory / "published")
    rows = [row for stem, page in pages.items() for hardware in page.hardware for row in _rows(stem, page, hardware)]
    grid = _frame("cells", rows)
    grid["machine"] = [row["machine"] for row in rows]
    others: dict[str, Any] = {name: _frame(name, []).assign(run_id="", machine="") for name in ORDER if name != "cells"}
    return Tables(grid=grid, **others, origin="published", words=Vocabulary.of(matrix))


def _rows(stem: str, page: Page, hardware: Hardware) -> Iterator[dict[str, Any]]:
    run_id = f"published:{stem}:{re.sub(r'[^a-z0-9]+', '-', hardware.name.lower())}"
    yardstick = hardware.reference_target or hardware.target
    references = {
        row.model: row
        for row in hardware.rows
        if (row.option, row.precision) == (REFERENCE_OPTION, REFERENCE_PRECISION)
        and (row.target or hardware.target) == yardstick
    }
    for row in hardware.rows:
        reference = references.get(row.model)
        yield {
            "run_id": run_id,
            "cell_id": _cell_id(row, hardware, page),
            # With the revision: the same board in two revisions of a page is two measurements, not one repeated.
            "machine": f"{hardware.name}, {page.version}",
            "model": row.model,
            "option": row.option,
            "precision": row.precision,
            "target": row.target or hardware.target,
            "imgsz": page.imgsz,
            "batch": 1,
            "threads": 0,
            "reference_id": _cell_id(reference, hardware, page) if reference else "",
            "status": Status.MEASURED.value,
            "reason_code": "",
            "map50_95": row.map50_95,
            "map_delta": _difference(row, reference),
            "images": page.images,
            "latency_p50_ms": row.ms,
            "latency_ratio": reference.ms / row.ms if reference else None,
            "size_bytes": None if row.size_mb is None else round(row.size_mb * MEGABYTE),
        }


def _difference(row: Row, reference: Row | None) -> float | None:
    if reference is None or row.map50_95 is None or reference.map50_95 is None:
        return None
    return row.map50_95 - reference.map50_95


def _cell_id(row: Row, hardware: Hardware, page: Page) -> str:
    return f"{row.model}/{row.option}-{row.precision}-{row.target or hardware.target}-{page.imgsz}"


def _frame(name: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = store.TABLES[name]
    known = [{key: value for key, value in row.items() if key in columns.names} for row in rows]
    frame: pd.DataFrame = pa.Table.from_pylist(known, schema=columns).to_pandas()
    return frame

"""What a table of a run must hold beside the types of its columns: looked at whenever one is read.

All that is made of a run computes with these values.  A file that was damaged, or that something else has written, is
refused here in one line, and not later where a quotient fails or, worse, does not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.reasons import Status, StoreError
from bench.store.facts import CATEGORIES, DISTURBED, IDENTITY, SECONDS

_FILLED: Mapping[str, Sequence[str]] = {
    "cells": ("cell_id", "imgsz", "batch", "threads"),
    "samples": ("cell_id", "window", "launch", "round", "order", "latency_ms", "contaminated"),
    "launches": ("cell_id", "window", "launch"),
    "detections": ("cell_id", "image_id", "category_id", "score", "x", "y", "w", "h", "matched"),
    "ground_truth": ("image_id", "file_name", "category_id", "objects"),
    "environment": ("scope", "key", "value"),
    "metrics": ("cell_id", "metric", "value", "unit", "direction"),
}
"""Columns that have a value in every row."""
_POSITIVE: Mapping[str, Sequence[str]] = {"cells": ("imgsz", "batch", "threads"), "samples": ("latency_ms",)}
"""Columns of finite numbers above 0."""
_FINITE: Mapping[str, Sequence[str]] = {"detections": ("score", "x", "y", "w", "h")}
"""Columns of finite numbers."""
_OBJECTS = ("attested", "expected")
"""Columns of `cells` that hold a JSON object, where they hold anything."""
_REMEDY = "the file is damaged, or something else has written it: restore it, or make the run again"


def require(path: Path, name: str, table: pa.Table) -> None:
    """Raise StoreError unless the rows of table `name`, which the file holds, can be meant."""
    there = table.column_names  # some of them, where only some were asked for
    for column in (one for one in _FILLED.get(name, ()) if one in there):
        if table[column].null_count:
            raise StoreError(f"{path}: {table[column].null_count} of {len(table)} rows have no {column}; {_REMEDY}")
    positive = _POSITIVE.get(name, ())
    for column in (one for one in (*positive, *_FINITE.get(name, ())) if one in there):
        values = table[column].drop_null().to_numpy()
        wrong = values[~(np.isfinite(values) & ((values > 0) | (column not in positive)))]
        if wrong.size:
            raise StoreError(f"{path}: {column} is {wrong[0]} in {wrong.size} of {len(table)} rows; {_REMEDY}")
    if name == "cells" and {"cell_id", "status", *_OBJECTS}.issubset(there):
        _require_cells(path, table)
    if name == "environment" and {"scope", "key", "value"}.issubset(there):
        _require_facts(path, table)


def _require_cells(path: Path, table: pa.Table) -> None:
    ids = table["cell_id"].to_pylist()
    if len(set(ids)) < len(ids):
        raise StoreError(f"{path}: {len(ids) - len(set(ids))} cells are there twice; {_REMEDY}")
    unknown = set(table["status"].drop_null().to_pylist()) - {status.value for status in Status}
    if unknown:
        raise StoreError(f"{path}: {min(unknown)!r} is no status of a cell; {_REMEDY}")
    for column in _OBJECTS:
        for cell, text in zip(ids, table[column].to_pylist(), strict=True):
            if text and not _is_json(text, dict):
                raise StoreError(f"{path}: {column} of {cell} is no JSON object; {_REMEDY}")


def _require_facts(path: Path, table: pa.Table) -> None:
    for row in table.select(["scope", "key", "value"]).to_pylist():
        scope, key, value = row["scope"], row["key"], row["value"]
        wrong = ""
        if scope == SECONDS and not _is_seconds(value):
            wrong = "is no number of seconds"
        elif scope == IDENTITY and not _is_json(value, dict):
            wrong = "is no JSON object"
        elif (scope, key) in (DISTURBED, CATEGORIES) and not _is_json(value, list):
            wrong = "is no JSON list"
        if wrong:
            raise StoreError(f"{path}: {key} of {scope} {wrong}; {_REMEDY}")


def _is_seconds(text: str) -> bool:
    try:
        return 0 <= float(text) < math.inf
    except ValueError:
        return False


def _is_json(text: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False

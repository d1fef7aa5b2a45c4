"""Tables as other versions of the schema wrote them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import store
from bench.store import parquet

SINCE = {("cells", "model_sha256"): 4, ("detections", "ignored"): 4}
"""Versions that columns came with."""


def write(
    folder: Path, version: int, name: str, rows: Sequence[Mapping[str, Any]], lacking: Collection[str] = ()
) -> None:
    """Write a table of that version, which had all columns of now but the `lacking` and those that came later."""
    columns = [
        column
        for column in store.TABLES[name]
        if column.name not in lacking and SINCE.get((name, column.name), 0) <= version
    ]
    schema = pa.schema(columns, metadata={"schema_version": str(version), "table": name})
    parquet.write(folder / f"{name}.parquet", rows, schema)


def write_history(folder: Path, version: int, tables: Mapping[str, pa.Table]) -> None:
    """Write a folder of a history as of that version: tables as they are, but for the version that they tell."""
    for name, table in tables.items():
        schema = table.schema.with_metadata({"schema_version": str(version), "table": name})
        parquet.write(folder / f"{name}.parquet", table, schema)

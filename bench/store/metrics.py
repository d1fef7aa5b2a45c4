"""Every figure of a run in one long table, with its interval, its unit and which way is better.

The columns of `cells` that are figures say so in their schema; a task's metrics that have no column there come beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.store.tables import CELLS, METRICS, read_table


def from_cells(cells: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of the table `metrics` for rows of `cells`; what a cell has no figure for is left out."""
    figures = [field for field in CELLS if b"better" in field.metadata]
    for cell in cells:
        for field in figures:
            value = cell.get(field.name)
            if value is None or pd.isna(value):
                continue
            yield {
                "cell_id": cell["cell_id"],
                "metric": field.name,
                "value": float(value),
                "low": cell.get(f"{field.name}_low"),
                "high": cell.get(f"{field.name}_high"),
                "unit": field.metadata[b"unit"].decode(),
                "direction": field.metadata[b"better"].decode(),
            }


def read(directory: Path) -> pd.DataFrame:
    """The table of a run; of a run of before it was written, made from its cells.  Raises StoreError."""
    if (directory / "metrics.parquet").is_file():
        return read_table(directory, "metrics")
    cells: list[dict[str, Any]] = read_table(directory, "cells").to_dict("records")  # type: ignore[assignment]
    frame: pd.DataFrame = pa.Table.from_pylist(list(from_cells(cells)), schema=METRICS).to_pandas()
    return frame

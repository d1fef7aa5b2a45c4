"""Every figure of a run in one long table, with its interval, its unit and which way is better.

The columns of `cells` that are figures say so in their schema; a task's metrics that have no column there come beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.store import parts
from bench.store.tables import CELLS, METRICS, read_arrow, read_table


@dataclass(frozen=True)
class Figure:
    """A figure of a cell by the name of its metric; None where it has no value, or no interval."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    unit: str
    direction: str


def in_cells(names: Iterable[str]) -> list[str]:
    """Those of the names that `cells` has a column for."""
    return [name for name in names if name in CELLS.names]


Beside = Mapping[str, Mapping[str, Figure]]
"""Figures that `cells` has no column for, by cell id and metric."""


def from_cells(cells: Iterable[Mapping[str, Any]], beside: Beside | None = None) -> Iterator[dict[str, Any]]:
    """Rows of the table `metrics` for rows of `cells`, and what is `beside`; what a cell has no figure for is left out.

    Those beside follow those of their cell.
    """
    for cell in cells:
        own = (beside or {}).get(cell["cell_id"], {})
        yield from of_cell(cell["cell_id"], [*_columns(cell), *own.values()])


def of_cell(cell_id: str, figures: Iterable[Figure]) -> Iterator[dict[str, Any]]:
    """The same for figures of one cell."""
    for figure in figures:
        if figure.value is not None:
            yield {"cell_id": cell_id, **asdict(figure)}


def read(directory: Path, cells: pd.DataFrame | None = None) -> pd.DataFrame:
    """The table of a run; of one that goes on, was killed, or is of before it was written, made from its cells.

    `cells` is that table, where it was read already.  Raises StoreError.
    """
    if parts.whole(directory, "metrics").is_file():
        return read_table(directory, "metrics")
    known = read_table(directory, "cells") if cells is None else cells
    # pandas allows any hashable name of a column; ours are text.
    rows: list[dict[str, Any]] = known.to_dict("records")  # type: ignore[assignment]
    every = list(from_cells(rows, beside_cells(directory)))
    frame: pd.DataFrame = pa.Table.from_pylist(every, schema=METRICS).to_pandas()
    return frame


def beside_cells(directory: Path) -> dict[str, dict[str, Figure]]:
    """What `read` tells of a run that its cells do not.  Raises StoreError.

    Of a run that is going on it is in parts, in which a figure may be there again: the last one counts.
    """
    found: dict[str, dict[str, Figure]] = {}
    if parts.files(directory, "metrics"):
        for row in read_arrow(directory, "metrics").to_pylist():
            cell_id, figure = row.pop("cell_id"), Figure(**row)
            if not in_cells([figure.metric]):
                found.setdefault(cell_id, {})[figure.metric] = figure
    return found


def _columns(cell: Mapping[str, Any]) -> Iterator[Figure]:
    """The figures in a row of `cells`."""
    for field in CELLS:
        if b"better" in field.metadata:
            value, low, high = (_known(cell.get(f"{field.name}{end}")) for end in ("", "_low", "_high"))
            unit, better = field.metadata[b"unit"].decode(), field.metadata[b"better"].decode()
            yield Figure(field.name, value, low, high, unit, better)


def _known(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)

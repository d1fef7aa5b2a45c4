"""A calibration on disk: what the guest and each tool found in every round, and under which circumstances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.reasons import StoreError
from bench.store import parquet
from bench.store.parquet import field

GUEST = "guest"
"""What the harness's own guest is called among the tools."""
_FACTS = b"calibration"


CALIBRATION = pa.schema(
    [
        field("cell", pa.string(), "", "Short id of the cell, option-precision-target-imgsz"),
        field("tool", pa.string(), "", f"Which tool, or {GUEST}: the harness's own guest"),
        field("round", pa.int32(), "", "Every round times the guest and all tools of every cell once"),
        field("order", pa.int32(), "", "Position among those of its cell in the round, which is drawn"),
        field("median_ms", pa.float64(), "ms", "Median of the inferences of one fresh process"),
        field("inner_ms", pa.float64(), "ms", "Median of their part between the copies; null where it is not told"),
        field("runs", pa.int32(), "", "Timed inferences"),
    ]
)


@dataclass(frozen=True)
class Turn:
    """A row of the table; units and meanings are those of `CALIBRATION`."""

    cell: str
    tool: str
    round: int
    order: int
    median_ms: float
    inner_ms: float | None
    runs: int


def write(path: Path, turns: Sequence[Turn], facts: Mapping[str, Any]) -> None:
    """Write the table in place of an earlier one, `facts` within.  Raises StoreError when the disk refuses."""
    schema = CALIBRATION.with_metadata({_FACTS: json.dumps(facts, sort_keys=True)})
    parquet.write(path, [asdict(turn) for turn in turns], schema)


def read(path: Path) -> tuple[list[Turn], dict[str, Any]]:
    """The rows of a table and its facts.  Raises StoreError for a file that is none."""
    try:
        table = parquet.read(path)
        facts = json.loads(table.schema.metadata[_FACTS])
        return [Turn(**row) for row in table.select(CALIBRATION.names).to_pylist()], facts
    except (StoreError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} holds no calibration: {error!r}") from error

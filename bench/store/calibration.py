"""A calibration on disk: what the guest and each tool found in every round, and under which circumstances."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.files import replacing
from bench.reasons import StoreError

GUEST = "guest"
"""What the harness's own guest is called among the tools."""
_FACTS = b"calibration"


def _field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


CALIBRATION = pa.schema(
    [
        _field("cell", pa.string(), "", "Short id of the cell, option-precision-target-imgsz"),
        _field("tool", pa.string(), "", f"Which tool, or {GUEST}: the harness's own guest"),
        _field("round", pa.int32(), "", "Every round times the guest and all tools of every cell once"),
        _field("order", pa.int32(), "", "Position among those of its cell in the round, which is drawn"),
        _field("median_ms", pa.float64(), "ms", "Median of the inferences of one fresh process"),
        _field("inner_ms", pa.float64(), "ms", "Median of their part between the copies; null where it is not told"),
        _field("runs", pa.int32(), "", "Timed inferences"),
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
    table = pa.Table.from_pylist([asdict(turn) for turn in turns], schema=schema)
    try:
        with replacing(path) as sink:
            pq.write_table(table, sink, compression="zstd")
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write the calibration to {path}: {error}") from error


def read(path: Path) -> tuple[list[Turn], dict[str, Any]]:
    """The rows of a table and its facts.  Raises StoreError for a file that is none."""
    try:
        table = pq.read_table(path)
        facts = json.loads(table.schema.metadata[_FACTS])
        return [Turn(**row) for row in table.select(CALIBRATION.names).to_pylist()], facts
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} holds no calibration: {error!r}") from error

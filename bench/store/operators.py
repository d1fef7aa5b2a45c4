"""The operators of an A/B's two sides on disk, beside its pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from bench.store import parquet
from bench.store.parquet import field

OPERATORS = pa.schema(
    [
        field("cell", pa.string(), "", "Id of the cell whose two sides these are"),
        field("side", pa.string(), "", "base or candidate"),
        field("place", pa.int32(), "", "Place in the runtime's own list"),
        field("name", pa.string(), "", "What the runtime calls the operator"),
        field("type", pa.string(), "", "Its type; OpenVINO's with the kernel"),
        field("ms", pa.float64(), "ms", "Usual time in an inference, profiler on"),
    ]
)


class Operator(Protocol):
    """What is stored of an operator."""

    @property
    def name(self) -> str:
        """What the runtime calls it."""

    @property
    def type(self) -> str:
        """Its type."""

    @property
    def ms(self) -> float:
        """Its usual time in an inference, ms."""


def write(directory: Path, cells: Mapping[str, Mapping[str, Sequence[Operator]]]) -> None:
    """Write the operators of each cell's sides as operators.parquet.  Raises StoreError when the disk refuses."""
    rows = [
        {"cell": cell, "side": side, "place": place, "name": one.name, "type": one.type, "ms": one.ms}
        for cell, sides in cells.items()
        for side, operators in sides.items()
        for place, one in enumerate(operators)
    ]
    parquet.write(directory / "operators.parquet", rows, OPERATORS)

"""The operators of an A/B's two sides on disk, beside its pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from bench.files import replacing
from bench.reasons import StoreError

OPERATORS = pa.schema(
    [
        pa.field("cell", pa.string(), metadata={"unit": "", "meaning": "Id of the cell whose two sides these are"}),
        pa.field("side", pa.string(), metadata={"unit": "", "meaning": "base or candidate"}),
        pa.field("place", pa.int32(), metadata={"unit": "", "meaning": "Place in the runtime's own list"}),
        pa.field("name", pa.string(), metadata={"unit": "", "meaning": "What the runtime calls the operator"}),
        pa.field("type", pa.string(), metadata={"unit": "", "meaning": "Its type; OpenVINO's with the kernel"}),
        pa.field("ms", pa.float64(), metadata={"unit": "ms", "meaning": "Usual time in an inference, profiler on"}),
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
    try:
        with replacing(directory / "operators.parquet") as sink:
            pq.write_table(pa.Table.from_pylist(rows, schema=OPERATORS), sink, compression="zstd")
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot write the operators to {directory}: {error}") from error

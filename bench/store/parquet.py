"""One Parquet file: its columns with unit and meaning, written as a whole, read so that nothing can go wrong later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.files import replacing
from bench.reasons import StoreError


def field(name: str, kind: pa.DataType, unit: str, meaning: str, better: str = "") -> pa.Field:
    """A column; `better` (higher or lower) makes it a metric, whose interval is in the columns _low and _high."""
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning} | ({"better": better} if better else {}))


def write(
    path: Path, rows: Iterable[Mapping[str, Any]] | pd.DataFrame | pa.Table, schema: pa.Schema, **encoding: Any
) -> None:
    """Replace a file as a whole by rows of a schema, whose metadata it keeps; `encoding` is pyarrow's.

    Raises StoreError when a row does not fit the schema or the disk refuses; the previous file then stays.
    """
    try:
        if isinstance(rows, pa.Table):
            table = rows.cast(schema)
        elif isinstance(rows, pd.DataFrame):
            table = pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
        else:
            table = pa.Table.from_pylist(list(rows), schema=schema)
        with replacing(path) as sink:
            # A bit that flips on a disk is then an error when the page is read, and not another result.
            pq.write_table(
                table.replace_schema_metadata(schema.metadata),
                sink,
                compression="zstd",
                write_page_checksum=True,
                **encoding,
            )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def read(path: Path) -> pa.Table:
    """The table of a file.  Raises StoreError for one that cannot be read."""
    try:
        # Read at once: by name it would be opened twice, and a run that is going on may replace it in between.
        # And in this thread alone: a thread of Arrow's that lets go of the bytes while Python ends aborts the process
        # (apache/arrow issue 34314).
        source = pa.BufferReader(path.read_bytes())
        return pq.ParquetFile(source, page_checksum_verification=True).read(use_threads=False)
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:  # a damaged length asks for any amount
        raise StoreError(f"cannot read {path}: {error}") from error

"""One Parquet file: its columns with unit and meaning, written as a whole, read so that nothing can go wrong later.

Its rows are in groups.  Where only some of the rows are wanted, one group after another is read and looked through, and
those that cannot hold any are left out; so what is in memory is what was asked for, however large the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.files import replacing
from bench.reasons import StoreError

_UNREADABLE = (OSError, ValueError, MemoryError, pa.ArrowException)
"""What Arrow raises for a file that it cannot read; a damaged length asks for any amount of memory."""
GROUP = 2**18
"""Rows of a group."""
_NAMES = b"columns_crc32"
"""What of a file's metadata the names of its columns are held against: they lie in no page that has a checksum."""

Only = Mapping[str, Collection[Any]]
"""Values by column: rows that have others there are left out."""


def field(name: str, kind: pa.DataType, unit: str, meaning: str, better: str = "") -> pa.Field:
    """A column; `better` (higher or lower) makes it a metric, whose interval is in the columns _low and _high."""
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning} | ({"better": better} if better else {}))


def write(
    path: Path,
    rows: Iterable[Mapping[str, Any]] | pd.DataFrame | pa.Table,
    schema: pa.Schema,
    *,
    group: int = GROUP,
    **encoding: Any,
) -> None:
    """Replace a file as a whole by rows of a schema, whose metadata it keeps; `encoding` is pyarrow's.

    Raises StoreError when a row does not fit the schema or the disk refuses; the previous file then stays.
    """
    write_pieces(path, (_table(one, schema) for one in [rows]), schema, group=group, **encoding)


def write_pieces(
    path: Path, pieces: Iterable[pa.Table], schema: pa.Schema, *, group: int = GROUP, **encoding: Any
) -> None:
    """The same for rows that come in pieces, one of which is in memory at a time."""
    schema = schema.with_metadata({**(schema.metadata or {}), _NAMES: _crc32(schema)})
    try:
        # A bit that flips on a disk is then an error when the page is read, and not another result.
        with (
            replacing(path) as sink,
            pq.ParquetWriter(sink, schema, compression="zstd", write_page_checksum=True, **encoding) as writer,
        ):
            for piece in pieces:
                writer.write_table(piece.cast(schema), group)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def read(path: Path, only: Only | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a file; where that is asked for, only the rows with certain values, and only some columns.

    Raises StoreError for a file that cannot be read.
    """
    try:
        with _opened(path) as file:
            schema = file.schema_arrow
            wanted = [name for name in schema.names if columns is None or name in columns or name in (only or ())]
            if not only:
                return file.read(columns=wanted, use_threads=False)
            places = [place for place in range(file.num_row_groups) if _may_hold(file.metadata.row_group(place), only)]
            found = [matching(file.read_row_group(place, columns=wanted, use_threads=False), only) for place in places]
    except _UNREADABLE as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    return pa.concat_tables([schema.empty_table().select(wanted), *found]).unify_dictionaries()


def groups(path: Path) -> Iterator[pa.Table]:
    """The table of a file, a group of its rows at a time.  Raises StoreError for a file that cannot be read."""
    try:
        with _opened(path) as file:
            for place in range(file.num_row_groups):
                yield file.read_row_group(place, use_threads=False)
    except _UNREADABLE as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def by_column(path: Path, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
    """Those of the columns that a file has, each by itself, one after another.  Raises StoreError as `read`."""
    try:
        with _opened(path) as file:
            for name in (name for name in names if name in file.schema_arrow.names):
                yield name, file.read(columns=[name], use_threads=False)
    except _UNREADABLE as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def length(path: Path) -> int:
    """Rows of a file.  Raises StoreError as `read`."""
    try:
        with _opened(path) as file:
            return int(file.metadata.num_rows)
    except _UNREADABLE as error:
        raise StoreError(f"cannot read {path}: {error}") from error


def matching(table: pa.Table, only: Only) -> pa.Table:
    """The rows of a table with certain values.  Raises KeyError for a column that it has not."""
    for name, values in only.items():
        held = [_holds(chunk, list(values)) for chunk in table[name].chunks]
        table = table.filter(pa.chunked_array(held, pa.bool_()))
    return table


def _opened(path: Path) -> pq.ParquetFile:
    # Opened once: a run that is going on may replace the file between two openings by name.  And whoever reads does it
    # in this thread alone: one of Arrow's that lets go of memory while Python ends aborts the process (apache/arrow
    # issue 34314).
    file = pq.ParquetFile(pa.OSFile(str(path)), page_checksum_verification=True)
    said = (file.schema_arrow.metadata or {}).get(_NAMES)  # files of before have none
    if said is not None and said != _crc32(file.schema_arrow):
        file.close()
        raise ValueError("its columns have other names than those that were written; the file is damaged")
    return file


def _crc32(schema: pa.Schema) -> bytes:
    return str(zlib.crc32("\n".join(schema.names).encode("utf-8", "surrogateescape"))).encode()


def _table(rows: Iterable[Mapping[str, Any]] | pd.DataFrame | pa.Table, schema: pa.Schema) -> pa.Table:
    if isinstance(rows, pa.Table):
        return rows
    if isinstance(rows, pd.DataFrame):
        return pa.Table.from_pandas(rows, schema=schema, preserve_index=False)
    return pa.Table.from_pylist(list(rows), schema=schema)


def _may_hold(group: Any, only: Only) -> bool:
    """Whether a group of rows may have the values, by the least and the greatest of each column that it tells."""
    for column in (group.column(place) for place in range(group.num_columns)):
        if column.path_in_schema not in only or column.statistics is None or not column.statistics.has_min_max:
            continue
        least, greatest = column.statistics.min, column.statistics.max
        if not any(least <= value <= greatest for value in only[column.path_in_schema]):
            return False
    return True


def _holds(chunk: pa.Array, values: list[Any]) -> pa.Array:
    if isinstance(chunk, pa.DictionaryArray):
        return _holds(chunk.dictionary, values).take(chunk.indices)
    return pc.is_in(chunk, value_set=pa.array(values, chunk.type))

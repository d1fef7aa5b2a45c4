"""The pairs of the gate's self-check on disk, a file per kind of machine, and beside them what they came to.

Later pairs are appended: the more there are, the tighter is the bound on false alarms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.files import replacing
from bench.reasons import StoreError

FOLDER = "self-check"
"""Beside the folder of runs."""
VERSION = 1
_TABLE = "self_check"


def _field(name: str, kind: pa.DataType, unit: str, meaning: str) -> pa.Field:
    return pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})


_MS = pa.list_(pa.float32())
PAIRS = pa.schema(
    [
        _field("session", pa.string(), "UTC", "When the command that took the pair began; pairs of one are in order"),
        _field("number", pa.int32(), "", "Place of the pair in its session"),
        _field("cell", pa.string(), "", "Id of the cell whose two sides these are"),
        _field("option", pa.string(), "", "Deployment option of the cell"),
        _field("precision", pa.string(), "", "Precision of the cell"),
        _field("role", pa.string(), "", "itself (A/A), planted, placebo, positive or control; matrices/selfcheck.toml"),
        _field("dose", pa.float64(), "share", "Slowdown planted into the candidate, as its guest attested; 0 is none"),
        _field("busy", pa.bool_(), "", "Whether the other CPUs did matrix products meanwhile"),
        _field("pages", pa.string(), "", "Memory of both sides: huge, or ordinary pages"),
        _field("base", pa.string(), "", "The base, as `ab` writes a side"),
        _field("candidate", pa.string(), "", "The candidate, likewise"),
        _field("versions", pa.string(), "", "What the two runtimes say their versions are, base first"),
        _field("seconds", pa.float64(), "s", "What the pair took, from the start of its guests to their end"),
        _field(
            "latency", pa.float64(), "log ratio", "The pair's observation: candidate over base, median of neighbours"
        ),
        _field("load_ms", pa.float64(), "log ratio", "Candidate over base: time to load"),
        _field("first_inference_ms", pa.float64(), "log ratio", "Candidate over base: first inference"),
        _field("peak_rss_bytes", pa.float64(), "log ratio", "Candidate over base: peak resident memory"),
        _field("first", pa.string(), "", "Which side went first in each turn: b or c"),
        _field("base_ms", _MS, "ms", "Every inference of the base, in order"),
        _field("candidate_ms", _MS, "ms", "Every inference of the candidate, in order"),
    ]
)


def path_of(folder: Path, machine: str) -> Path:
    """The file of a kind of machine, which need not exist."""
    return folder / f"{machine}.parquet"


def files(folder: Path) -> list[Path]:
    """All files of a folder that need not exist, by name."""
    return sorted(folder.glob("*.parquet"))


def write(path: Path, pairs: Iterable[Mapping[str, Any]] | pd.DataFrame, facts: Mapping[str, Any]) -> None:
    """Replace a file as a whole; `facts` are ready for JSON.  Raises StoreError when a row or the disk refuses."""
    metadata = {"schema_version": str(VERSION), "table": _TABLE, "facts": json.dumps(facts)}
    schema = PAIRS.with_metadata(metadata)
    try:
        if isinstance(pairs, pd.DataFrame):
            table = pa.Table.from_pandas(pairs, schema=PAIRS, preserve_index=False)
        else:
            table = pa.Table.from_pylist(list(pairs), schema=PAIRS)
        with replacing(path) as sink:
            pq.write_table(table.replace_schema_metadata(schema.metadata), sink, compression="zstd")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Pairs and facts.  Raises StoreError for a file that cannot be read or is of another version."""
    try:
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read(use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if (metadata.get("table"), metadata.get("schema_version")) != (_TABLE, str(VERSION)):
        raise StoreError(f"{path} is no self-check of version {VERSION}; move it away, and take a new one")
    return table.to_pandas(use_threads=False), dict(json.loads(metadata["facts"]))

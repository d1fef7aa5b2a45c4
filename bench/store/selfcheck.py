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

from bench.reasons import StoreError
from bench.store import parquet
from bench.store.parquet import field

FOLDER = "self-check"
"""Beside the folder of runs."""
VERSION = 1
_TABLE = "self_check"


_MS = pa.list_(pa.float32())
PAIRS = pa.schema(
    [
        field("session", pa.string(), "UTC", "When the command that took the pair began; pairs of one are in order"),
        field("number", pa.int32(), "", "Place of the pair in its session"),
        field("cell", pa.string(), "", "Id of the cell whose two sides these are"),
        field("option", pa.string(), "", "Deployment option of the cell"),
        field("precision", pa.string(), "", "Precision of the cell"),
        field("role", pa.string(), "", "itself (A/A), planted, placebo, positive or control; matrices/selfcheck.toml"),
        field("dose", pa.float64(), "share", "Slowdown planted into the candidate, as its guest attested; 0 is none"),
        field("busy", pa.bool_(), "", "Whether the other CPUs did matrix products meanwhile"),
        field("pages", pa.string(), "", "Memory of both sides: huge, or ordinary pages"),
        field("base", pa.string(), "", "The base, as `ab` writes a side"),
        field("candidate", pa.string(), "", "The candidate, likewise"),
        field("versions", pa.string(), "", "What the two runtimes say their versions are, base first"),
        field("seconds", pa.float64(), "s", "What the pair took, from the start of its guests to their end"),
        field(
            "latency", pa.float64(), "log ratio", "The pair's observation: candidate over base, median of neighbours"
        ),
        field("load_ms", pa.float64(), "log ratio", "Candidate over base: time to load"),
        field("first_inference_ms", pa.float64(), "log ratio", "Candidate over base: first inference"),
        field("peak_rss_bytes", pa.float64(), "log ratio", "Candidate over base: peak resident memory"),
        field("first", pa.string(), "", "Which side went first in each turn: b or c"),
        field("base_ms", _MS, "ms", "Every inference of the base, in order"),
        field("candidate_ms", _MS, "ms", "Every inference of the candidate, in order"),
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
    parquet.write(path, pairs, PAIRS.with_metadata(metadata))


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Pairs and facts.  Raises StoreError for a file that cannot be read or is of another version."""
    table = parquet.read(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if (metadata.get("table"), metadata.get("schema_version")) != (_TABLE, str(VERSION)):
        raise StoreError(f"{path} is no self-check of version {VERSION}; move it away, and take a new one")
    return table.to_pandas(use_threads=False), dict(json.loads(metadata["facts"]))

"""An A/B on disk: every inference of every pair, and its facts."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.files import replacing
from bench.reasons import StoreError
from bench.stats.allocation import Noise
from bench.store import parquet
from bench.store.parquet import field

FACTS, CHECK = "facts.json", "check.json"
PAIRS = pa.schema(
    [
        field("cell", pa.string(), "", "Id of the cell whose two sides these are"),
        field("stage", pa.string(), "", "screen, or confirm with pairs of its own"),
        field("pair", pa.int32(), "", "Pair within the stage; both guests are fresh"),
        field("index", pa.int32(), "", "Position of the two inferences in the pair"),
        field("first", pa.string(), "", "Which side went first: base or candidate"),
        field("base_ms", pa.float64(), "ms", "One inference of the base"),
        field("candidate_ms", pa.float64(), "ms", "One inference of the candidate"),
    ]
)


class Pair(Protocol):
    """What is stored of a pair."""

    @property
    def base_ms(self) -> NDArray[np.float64]:
        """Times of the base in ms, (n,)."""

    @property
    def candidate_ms(self) -> NDArray[np.float64]:
        """Times of the candidate in ms, (n,)."""

    @property
    def first(self) -> tuple[str, ...]:
        """Which side went first each time."""


def new_folder(parent: Path, cell: str) -> Path:
    """A folder that was not there before.  Raises StoreError when it cannot be made."""
    path = parent / f"{time.strftime('%Y%m%dT%H%M%S')}-{cell}-{secrets.token_hex(2)}"
    try:
        path.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"cannot make {path}: {error}") from error
    return path


def write(directory: Path, cells: Mapping[str, Mapping[str, Sequence[Pair]]], facts: Mapping[str, Any]) -> None:
    """Write the pairs of each cell's stages as pairs.parquet, and facts as facts.json beside it.

    Raises StoreError when the disk refuses.
    """
    rows = [
        {
            "cell": cell,
            "stage": stage,
            "pair": number,
            "index": index,
            "first": first,
            "base_ms": float(base),
            "candidate_ms": float(candidate),
        }
        for cell, stages in cells.items()
        for stage, pairs in stages.items()
        for number, pair in enumerate(pairs)
        for index, (first, base, candidate) in enumerate(zip(pair.first, pair.base_ms, pair.candidate_ms, strict=True))
    ]
    parquet.write(directory / "pairs.parquet", rows, PAIRS)
    write_facts(directory / FACTS, facts)


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write facts as JSON.  Raises StoreError when the disk refuses."""
    try:
        with replacing(path) as sink:
            sink.write(json.dumps(facts, indent=1).encode() + b"\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error


def past_noise(checks: Path) -> dict[str, Noise]:
    """How much each cell's pairs varied and what they took, in the newest of the checks that took some."""
    found: dict[str, Noise] = {}
    for path in sorted(checks.glob(f"*/{FACTS}")):
        try:
            told = json.loads(path.read_text(encoding="utf-8"))["noise"]
            found |= {cell: Noise(float(one["deviation"]), float(one["seconds"])) for cell, one in told.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(f"{path}: no facts of a check: {error!r}; delete its folder") from error
    return found

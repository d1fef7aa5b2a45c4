"""Runs on their way into the history: found in folders, introduced by a row, and read as the present bench has them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.history import layout
from bench.history.layout import KEPT, SCHEMAS, UNDATED
from bench.reasons import Status, StoreError, UsageError
from bench.store import metrics, parquet, parts, tables

_OF_THE_RUN = ("sweep", "task", "model", "model_sha256", "data", "data_sha256", "commit")


@dataclass(frozen=True)
class Arrival:
    """A run in a folder: the key of its machine, and its row of the table `runs`."""

    directory: Path
    machine: str
    row: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return str(self.row["run_id"])

    @property
    def month(self) -> str:
        """The month it began in, as the dataset calls it."""
        started: datetime | None = self.row["started"]
        return UNDATED if started is None else f"{started:%Y-%m}"


def find(folders: Iterable[Path]) -> list[Path]:
    """Every run in these folders, however deep, each once and in order; what lies within a run belongs to it.

    Raises UsageError for a folder that holds none.
    """
    found: set[Path] = set()
    for folder in folders:
        there = set(_runs(folder))
        if not there:
            raise UsageError(
                f"{folder}: no run in it (a folder with a cells.parquet); give the folder of a run, or one that "
                "artifacts were unpacked in"
            )
        found |= there
    return sorted(found)


def _runs(folder: Path) -> Iterator[Path]:
    for here, below, files in os.walk(folder):
        # The files of a history are those of many runs, and are no run.
        below[:] = [] if "cells.parquet" in files else [name for name in below if not name.startswith("machine=")]
        if "cells.parquet" in files:
            yield Path(here).resolve()


def introduce(directory: Path, link: str = "") -> Arrival:
    """What the history must know of a run before it is added.  Raises StoreError where it cannot be read."""
    cells = tables.read_arrow(directory, "cells", columns=["run_id", "cell_id", "status", "started"])
    facts: dict[str, dict[str, str]] = {}
    for fact in tables.read_arrow(directory, "environment").to_pylist():
        facts.setdefault(fact["scope"], {})[fact["key"]] = fact["value"]
    run, machine = facts.get("run", {}), layout.machine_of(facts.get("machine", {}))
    ids = set(cells["run_id"].drop_null().to_pylist())
    row = {
        "run_id": ids.pop() if len(ids) == 1 else directory.name,
        "machine_name": machine.name,
        "started": _began(directory, run.get("started", ""), cells),
        **{name: run.get(name, "") for name in _OF_THE_RUN},
        "cells": len(cells),
        "measured": cells["status"].to_pylist().count(Status.MEASURED.value),
        "samples": sum(map(parquet.length, parts.files(directory, "samples"))),
        "digest": _digest(directory),
        "link": link,
    }
    return Arrival(directory, machine.key, row)


def read(arrival: Arrival) -> dict[str, pa.Table]:
    """The tables of a run as the history keeps them; one that the run lacks is empty.  Raises StoreError."""
    found = {"runs": pa.Table.from_pylist([dict(arrival.row)], schema=SCHEMAS["runs"])}
    for name in KEPT:
        found[name] = of_run(name, _table(arrival.directory, name), arrival.run_id)
    return found


def of_run(name: str, table: pa.Table, run_id: str) -> pa.Table:
    """A table of a run with the name of the run in every row."""
    rest = table.drop_columns(["run_id"]) if "run_id" in table.column_names else table
    names = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), len(rest)), pa.array([run_id]))
    return tables.fitted(rest.append_column("run_id", names), SCHEMAS[name])


def _table(directory: Path, name: str) -> pa.Table:
    if parts.files(directory, name):
        return tables.read_arrow(directory, name)
    if name == "metrics":  # a run of before it was written
        frame = metrics.read(directory)
        return pa.Table.from_pandas(frame, schema=tables.METRICS, preserve_index=False)
    return tables.TABLES[name].empty_table()


def _began(directory: Path, told: str, cells: pa.Table) -> datetime | None:
    """When a run began: as it says, else when its first cell did; None where neither is told."""
    if not told:
        return min(cells["started"].drop_null().to_pylist(), default=None)
    try:
        began = datetime.fromisoformat(told)
    except ValueError as error:
        raise StoreError(f"{directory}: the run says that it began at {told!r}, which is no time: {error}") from error
    return (began if began.tzinfo else began.replace(tzinfo=UTC)).astimezone(UTC)


def _digest(directory: Path) -> str:
    """Equal for copies of a run, and for nothing else."""
    digest = hashlib.sha256()
    for path in (path for name in KEPT for path in parts.files(directory, name)):
        digest.update(f"{path.relative_to(directory)}\n".encode())
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error}") from error
    return digest.hexdigest()

"""What the history holds and where: a Parquet file per table in a folder per machine and period.

`<root>/machine=<key>/period=<month or year>/<table>.parquet` is what DuckDB, Arrow and Spark call hive-partitioned.  A
night adds a run of a machine to a month of that machine, so what is written anew is small however long the history is;
a question about a machine, or about some weeks, opens the files of these alone.  A file has one schema, that of the
bench which wrote it.  The predictions stay with their run: they are most of its bytes, and nothing here asks for them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bench.grid import machine
from bench.store import parquet, tables
from bench.store.parquet import field

_DICT = pa.dictionary(pa.int32(), pa.string())

RUNS = pa.schema(
    [
        field("run_id", pa.string(), "", "Name of the run"),
        field("machine_name", pa.string(), "", "What its machine is called; the drivers of devices are left out"),
        field("started", pa.timestamp("ms", tz="UTC"), "UTC", "When it began; null where the run does not say"),
        field("sweep", pa.string(), "", "Sweep it took its cells from"),
        field("task", pa.string(), "", "Task of the model"),
        field("model", pa.string(), "", "Name of the checkpoint"),
        field("model_sha256", pa.string(), "sha256", "Hash of the checkpoint"),
        field("data", pa.string(), "", "Name of the data"),
        field("data_sha256", pa.string(), "sha256", "Hash of its images"),
        field("commit", pa.string(), "", "Commit of the bench, where it ran in a checkout"),
        field("cells", pa.int32(), "cells", "Cells of its grid"),
        field("measured", pa.int32(), "cells", "Those that were measured"),
        field("samples", pa.int64(), "samples", "Timed inferences"),
        field("digest", pa.string(), "sha256", "Hash over the files of its tables that are kept here"),
        field("link", pa.string(), "", "Where the whole run is kept, as it was told when the run was added"),
    ]
)

KEPT = ("cells", "metrics", "samples", "launches", "environment")
"""Tables of a run that are kept; the others are predictions, and what judges the statements of a guide."""


def _of_runs(name: str) -> pa.Schema:
    """A table of a run with the run that each row is of."""
    own = tables.TABLES[name]
    return own if "run_id" in own.names else pa.schema([field("run_id", _DICT, "", "Run that the row is of"), *own])


SCHEMAS: Mapping[str, pa.Schema] = {"runs": RUNS, **{name: _of_runs(name) for name in KEPT}}

UNDATED = "undated"
"""Period of runs that do not say when they began."""
_ARITHMETIC = re.compile(r"(avx|amx|sse|fma|f16c|bf16|asimd|sve|sme|neon|i8mm|fphp)")
_DRIVER = re.compile(r", driver [\d.]+")


@dataclass(frozen=True, order=True)
class Partition:
    """A folder of the dataset: the key of a machine, and a month (2026-11) or a year."""

    machine: str
    period: str

    @property
    def path(self) -> Path:
        """Its place in the dataset."""
        return Path(f"machine={self.machine}", f"period={self.period}")

    @property
    def year(self) -> str:
        """The year it is of, or in."""
        return self.period.partition("-")[0]


@dataclass(frozen=True)
class Machine:
    """A machine: its key, which names a folder, and what people call it."""

    key: str
    name: str


def machine_of(facts: Mapping[str, str]) -> Machine:
    """The machine that a run was made on, from what it recorded of it.

    Machines of one kind are one, unless their users call them by different names.  Drivers and the kernel are left out,
    since they are what changes on a machine, and of the processor's features all but the arithmetic ones: updates of a
    kernel bring new ones that are no instructions.
    """
    name = machine.short_name({**facts, "accelerators": _DRIVER.sub("", facts.get("accelerators", ""))})
    features = [flag for flag in facts.get("cpu_flags", "").split() if _ARITHMETIC.match(flag)]
    told = "\n".join([name, facts.get("machine", ""), *sorted(features)])
    words = (_word(facts.get("name", "")), _word(machine.processor_of(name)), "machine")
    return Machine(f"{next(filter(None, words))}-{hashlib.sha256(told.encode()).hexdigest()[:8]}", name)


def _word(text: str) -> str:
    """A text as a part of a folder's name; empty where it has no letter that every file system takes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def partitions(root: Path) -> list[Partition]:
    """Every folder of the dataset that holds runs, in order."""
    return sorted(
        Partition(path.parent.parent.name.partition("=")[2], path.parent.name.partition("=")[2])
        for path in root.glob("machine=*/period=*/runs.parquet")
    )


def write(folder: Path, name: str, table: pa.Table) -> None:
    """Write a table of a partition.  Raises StoreError where it does not fit its schema, or the disk refuses."""
    schema = SCHEMAS[name].with_metadata({"schema_version": str(tables.SCHEMA_VERSION), "table": name})
    parquet.write(folder / f"{name}.parquet", table, schema, **tables.encoding(schema))

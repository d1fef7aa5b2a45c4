"""Small sets of invented results, from which every check has to tell yes, no and undecided apart.

`Results` is a handful of rows; `tables` fills in the columns that do not matter and gives them the true schema.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from bench import store
from bench.decide.claims.tables import Origin, Tables, Vocabulary
from bench.grid.matrix import REFERENCE_OPTION

RUN, MACHINE = "synthetic", "invented machine"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LAUNCHES, ROUNDS, SAMPLES = 6, 2, 10
REFERENCE_MS = 80.0

Row = tuple[str, Mapping[str, Any]]
"""Table and columns."""


@dataclass(frozen=True)
class Results:
    """Rows of one invented run."""

    rows: tuple[Row, ...]

    def tables(self, origin: Origin = "measured", *, reverse: bool = False) -> Tables:
        """As tables with the store's schema; `reverse` turns the order of the rows round."""
        rows = self.rows[::-1] if reverse else self.rows
        frames = {}
        for name in ("cells", "samples", "environment", "probes", "packages"):
            own = [dict(columns) for table, columns in rows if table == name]
            frame = pa.Table.from_pylist(own, schema=store.TABLES[name]).to_pandas()
            frame["run_id"] = [columns.get("run_id", RUN) for columns in own]
            frame["machine"] = [columns.get("machine", MACHINE) for columns in own]
            frames[name] = frame
        frames["samples"]["cell_id"] = frames["samples"].cell_id.astype(str)
        grid = frames.pop("cells")
        options = {str(option): sorted(set(group.target)) for option, group in grid.groupby("option")}
        return Tables(grid=grid, **frames, origin=origin, words=Vocabulary(options))


def results(*parts: Row | Sequence[Row]) -> Results:
    """Rows and groups of rows as one set of results."""
    rows: list[Row] = []
    for part in parts:
        # mypy does not tell a row from several by the first item of either.
        rows += [part] if isinstance(part[0], str) else list(part)  # type: ignore[list-item,arg-type]
    return Results(tuple(rows))


def cell(
    option: str,
    precision: str = "fp32",
    target: str = "cpu",
    *,
    ratio: tuple[float, float, float] | None = None,
    threads: int = 1,
    batch: int = 1,
    **columns: Any,
) -> Row:
    """A measured cell; `ratio` is its latency ratio with the ends of the interval."""
    value, low, high = ratio or (None, None, None)
    where = f"640-b{batch}-t{threads}"
    row = {
        "run_id": RUN,
        "cell_id": f"model/{option}-{precision}-{target}-{where}",
        "reference_id": f"model/{REFERENCE_OPTION}-fp32-cpu-{where}",
        "model": "model",
        "option": option,
        "precision": precision,
        "target": target,
        "imgsz": 640,
        "threads": threads,
        "batch": batch,
        "status": "measured",
        "reason_code": "",
        "reason": "",
        "compute": {"fp16": "f16", "int8": "i8"}.get(precision, "f32"),
        "latency_ratio": value,
        "latency_ratio_low": low,
        "latency_ratio_high": high,
        "latency_launches": LAUNCHES if ratio else None,
        "latency_rounds": LAUNCHES * ROUNDS if ratio else None,
        "started": NOON,
    }
    return "cells", row | columns


def reference(threads: int = 1, batch: int = 1, **columns: Any) -> Row:
    """PyTorch FP32 on the CPU, with the ratio 1 to itself."""
    return cell(REFERENCE_OPTION, ratio=(1.0, 1.0, 1.0), threads=threads, batch=batch, **columns)


def paced(option: str, ms: float, *, jitter: float = 0.01, tail: float = 1.05, **columns: Any) -> list[Row]:
    """A cell and its samples; its ratio is that to a PyTorch FP32 of `REFERENCE_MS`, which is 1 for that one itself."""
    ratio = 1.0 if option == REFERENCE_OPTION else REFERENCE_MS / ms
    return timed(cell(option, ratio=(ratio, ratio, ratio), **columns), ms, jitter=jitter, tail=tail)


def timed(row: Row, ms: float, *, jitter: float = 0.01, tail: float = 1.05, launches: int = LAUNCHES) -> list[Row]:
    """A cell with its samples: around `ms`, launches differing by `jitter`; one in five takes `tail` times as long."""
    draw = np.random.Generator(np.random.PCG64(len(str(row[1]["cell_id"])) + round(ms * 1000)))
    rows: list[Row] = [row]
    for launch in range(launches):
        base = ms * float(np.exp(draw.normal(0.0, jitter)))
        for number in range(launch * ROUNDS, (launch + 1) * ROUNDS):
            for index in range(SAMPLES):
                slow = tail * float(np.exp(draw.normal(0.0, jitter))) if index % 5 == 4 else 1.0
                columns = {
                    "cell_id": row[1]["cell_id"], "window": 0, "launch": launch, "round": number, "order": 0,
                    "index": index, "latency_ms": base * slow, "contaminated": False,
                }  # fmt: skip
                rows.append(("samples", columns))
    return rows


def attested(row: Row, **facts: Any) -> Row:
    """A cell whose runtime says this of itself."""
    return row[0], {**row[1], "attested": json.dumps(facts)}


def fact(scope: str, key: str, value: str) -> Row:
    """A row of the environment table."""
    return "environment", {"scope": scope, "key": key, "value": value}


def probe(name: str, option: str, subject: str, outcome: str, value: float | None = None, unit: str = "") -> Row:
    """An observation."""
    columns = {
        "probe": name, "option": option, "subject": subject, "outcome": outcome, "value": value, "unit": unit,
        "text": "invented", "date": NOON, "machine": MACHINE,
    }  # fmt: skip
    return "probes", columns


def release(package: str, version: str, age_days: float | None, *platforms: str, yanked: bool = False) -> list[Row]:
    """A release `age_days` before the snapshot (None: the index does not say) with a wheel per platform."""
    columns = {
        "package": package, "version": version, "kind": "wheel", "python": "cp312", "abi": "cp312", "yanked": yanked,
        "uploaded": None if age_days is None else NOON - timedelta(days=age_days), "snapshot": NOON,
    }  # fmt: skip
    return [("packages", {**columns, "platform": platform}) for platform in platforms or ("any",)]

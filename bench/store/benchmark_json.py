"""A run as pytest-benchmark's JSON, so that `pytest-benchmark compare` works on two runs.

The statistics are computed by pytest-benchmark itself from the stored samples; rounds marked contaminated are left
out, as they are everywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
from pytest_benchmark import __version__ as pytest_benchmark_version
from pytest_benchmark.stats import Stats

from bench.reasons import StoreError
from bench.store import tables

FILE_NAME = "pytest-benchmark.json"
_FIELDS = (
    "min", "max", "mean", "stddev", "rounds", "median", "iqr", "q1", "q3", "iqr_outliers", "stddev_outliers",
    "outliers", "ld15iqr", "hd15iqr", "ops", "total",
)  # fmt: skip


def write(directory: Path) -> Path | None:
    """Write `pytest-benchmark.json` into a run's directory from its Parquet; None when nothing was timed.

    Raises StoreError when the disk refuses.
    """
    if not (directory / "samples.parquet").is_file():
        return None
    samples = tables.read_table(directory, "samples")
    cells = tables.read_table(directory, "cells").set_index("cell_id")
    facts = tables.read_table(directory, "environment")
    of_several = len(set(cells.model)) > 1
    benchmarks = [
        _entry(cells.loc[str(name)].to_dict(), group, of_several=of_several)
        for name, group in samples[~samples.contaminated].groupby("cell_id", observed=True, sort=False)
        if cells.status[name] == "measured"
    ]
    if not benchmarks:
        return None
    of = {scope: dict(zip(group.key, group.value, strict=True)) for scope, group in facts.groupby("scope")}
    document = {
        "machine_info": of["machine"] | {"cpu": {"brand_raw": of["machine"]["cpu"]}},
        "commit_info": {"id": of["run"]["commit"].partition("+")[0], "dirty": "+" in of["run"]["commit"]},
        "benchmarks": benchmarks,
        "datetime": of["run"]["started"],
        "version": pytest_benchmark_version,
    }
    path = directory / FILE_NAME
    try:
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error}") from error
    return path


def _entry(cell: dict[Hashable, Any], samples: pd.DataFrame, *, of_several: bool) -> dict[str, Any]:
    stats: Any = Stats()  # type: ignore[no-untyped-call]  # the library has no annotations
    seconds = samples.latency_ms / 1e3
    for value in seconds:
        stats.update(float(value))
    params = {key: str(cell[key]) for key in ("model", "option", "precision", "target", "imgsz", "batch", "threads")}
    where = "-".join(params[key] for key in ("option", "precision", "target", "imgsz"))
    where = f"{params['model']}/{where}" if of_several else where
    name = f"test_latency[{where}-b{params['batch']}-t{params['threads']}]"
    return {
        "group": params["model"],
        "name": name,
        "fullname": f"bench/suites/test_cells.py::{name}",
        "params": params,
        "param": name[name.index("[") + 1 : -1],
        "extra_info": {"latency_ratio": cell["latency_ratio"]},
        "options": {"timer": "perf_counter", "warmup": True},
        "stats": {field: getattr(stats, field) for field in _FIELDS} | {"iterations": 1},
    }

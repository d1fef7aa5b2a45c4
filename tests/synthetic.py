"""Synthetic runs for tests and measurements of the history: a recorded run, taken again and again on invented machines.

Every run is derived from one of results/reference: its tables are read as they are, and its name, its times and its
machine are replaced by invented ones.  Then noise is put in, as nights have it: a pace that all cells of a night share
(sd 8 %), what each cell has of its own (1 % of latency, 3 % of loading, 0.4 % of memory); sizes and accuracy stay.
Nothing of it was measured, and no figure of it says anything of a runtime or a machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench import store
from bench.places import RECORDED
from bench.store import metrics, tables

PACE, LATENCY, LOADING, MEMORY = 0.08, 0.01, 0.03, 0.004
"""Standard deviations of logs: of a night for all its cells, and of each cell's latency, loading and memory."""
NEW_YEAR = datetime(2026, 1, 1, 1, 17, tzinfo=UTC)
_LATENCY = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
_LOADING = ("import_ms", "load_ms", "first_inference_ms")


@dataclass(frozen=True)
class Planted:
    """What is not noise: from a night on a cell's latency is `factor` times as long, and a package another version."""

    night: int
    cell_id: str = ""
    factor: float = 1.0
    scope: str = ""
    package: str = ""
    version: str = ""


@dataclass(frozen=True)
class Source:
    """The tables of a recorded run that are taken again."""

    cells: list[dict[str, Any]]
    samples: pa.Table
    environment: list[dict[str, Any]]

    @classmethod
    def of(cls, name: str = "coco128-640-cpu", cells: int | None = None, samples: int = 0) -> Source:
        """Read the recorded run, of `cells` timed cells at most.

        Its samples are repeated as further launches until there are as many as `samples`; 0: none.
        """
        folder = RECORDED / name
        rows = [row for row in tables.read_arrow(folder, "cells").to_pylist() if row["latency_p50_ms"]][:cells]
        found = tables.read_arrow(folder, "samples", {"cell_id": [row["cell_id"] for row in rows]})
        times = -(-samples // len(found))
        place = found.column_names.index("launch")
        launches = int(found["launch"].to_numpy().max()) + 1
        again = [
            found.set_column(place, "launch", pa.array(found["launch"].to_numpy() + launches * number, pa.int16()))
            for number in range(times)
        ]
        whole = pa.concat_tables(again) if again else found.slice(0, 0)
        return cls(rows, whole, tables.read_arrow(folder, "environment").to_pylist())


@dataclass(frozen=True)
class Fleet:
    """Machines that take a run each night, from `start` on; equal seeds give equal runs."""

    source: Source
    seed: int = 0
    machines: int = 1
    start: datetime = NEW_YEAR
    planted: tuple[Planted, ...] = ()
    pace: float = PACE
    names: tuple[str, ...] = ()
    """What users call the first of the machines, which then are all of one kind."""

    def write(self, folder: Path, night: int, machine: int = 0) -> Path:
        """Write the run of a machine's night, of nights from 1 on; returns its folder."""
        draw = np.random.default_rng([self.seed, machine, night])
        began = self.start + timedelta(days=night - 1, minutes=machine)
        run_id = f"{began:%Y%m%dT%H%M%S}-nightly-{machine}"
        pace = float(np.exp(draw.normal(0, self.pace)))
        cells = [self._cell(row, run_id, night, pace, began, draw) for row in self.source.cells]
        own = {
            row["cell_id"]: row["latency_p50_ms"] / before["latency_p50_ms"]
            for row, before in zip(cells, self.source.cells, strict=True)
        }
        directory = folder / run_id
        store.write_table(directory, "cells", cells)
        store.write_table(directory, "metrics", metrics.from_cells(cells))
        if len(self.source.samples):
            store.write_table(directory, "samples", _slowed(self.source.samples, own, draw))
        store.write_table(directory, "environment", self._environment(night, machine, began))
        return directory

    def _cell(
        self, row: Mapping[str, Any], run_id: str, night: int, pace: float, began: datetime, draw: np.random.Generator
    ) -> dict[str, Any]:
        factor = pace * float(np.exp(draw.normal(0, LATENCY)))
        for one in self.planted:
            factor *= one.factor if one.cell_id == row["cell_id"] and night >= one.night else 1.0
        loading, memory = (float(np.exp(draw.normal(0, sd))) for sd in (LOADING, MEMORY))
        changed = {name: row[name] * factor for name in _LATENCY if row[name]}
        changed |= {name: row[name] * pace * loading for name in _LOADING if row[name]}
        if row["peak_rss_bytes"]:
            changed["peak_rss_bytes"] = round(row["peak_rss_bytes"] * memory)
        return {**row, **changed, "run_id": run_id, "started": began}

    def _environment(self, night: int, machine: int, began: datetime) -> list[dict[str, Any]]:
        replaced = {
            ("run", "started"): began.strftime("%Y-%m-%dT%H:%M:%SZ"),
            ("run", "sweep"): "nightly",
            ("machine", "cpu"): "Invented processor" if self.names else f"Invented processor {machine}",
        }
        rows: list[dict[str, Any]] = []
        if machine < len(self.names):
            rows.append({"scope": "machine", "key": "name", "value": self.names[machine]})
        for row in self.source.environment:
            value = replaced.get((row["scope"], row["key"]), row["value"])
            for one in self.planted:
                if (row["scope"], row["key"]) == (one.scope, "packages") and night >= one.night:
                    value = _updated(value, one)
            rows.append({**row, "value": value})
        return rows


def _updated(packages: str, one: Planted) -> str:
    """A list of packages with another version of one."""
    pins = [pin for pin in json.loads(packages) if not pin.startswith(f"{one.package}==")]
    return json.dumps(sorted([*pins, f"{one.package}=={one.version}"]))


def _slowed(samples: pa.Table, own: Mapping[str, float], draw: np.random.Generator) -> pa.Table:
    """Samples as long as their cells were slow, each with a little noise of its own."""
    names = samples["cell_id"].unify_dictionaries().combine_chunks()
    factors = np.array([own.get(name, 1.0) for name in names.dictionary.to_pylist()])[names.indices.to_numpy()]
    times = samples["latency_ms"].to_numpy() * factors * np.exp(draw.normal(0, 0.002, len(samples)))
    place = samples.column_names.index("latency_ms")
    return samples.set_column(place, "latency_ms", pa.array(times))

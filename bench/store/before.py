"""What there is of a run that was stopped or killed and is gone on with: what of it stays, and what is measured anew.

A cell stays as it is unless its row says that the run was stopped, or that it was left out by a selection.  Of one that
was stopped in a time window, or before it, everything but the latency stays; its turns go, for a window's cells are
timed together.  Those of references stay where a finished cell is held against them, and in the first of their windows,
which is what their rows are of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.reasons import Reason, Status, UsageError
from bench.stats.launches import Launch
from bench.stats.turns import OnGpu, Turn
from bench.store import metrics, parquet, parts, tables
from bench.store.facts import DISTURBED
from bench.store.metrics import Beside

_AGAIN = (Reason.INTERRUPTED.value, Reason.NOT_SELECTED.value)
_TURN = ["cell_id", "window", "launch", "round", "order"]
_GPU = "gpu_"


@dataclass(frozen=True)
class Before:
    """A run as it was left.

    `rows` of `cells` that stay, by cell id, `finished` those of them that lack nothing, `beside` figures of those that
    stay which have no column; `turns` by cell and window, `launches` and `environment` (by scope and key) as the store
    keeps them; `predictions` the table that its task has.
    """

    rows: Mapping[str, dict[str, Any]]
    finished: frozenset[str]
    beside: Beside
    turns: Mapping[tuple[str, int], list[Turn]]
    launches: tuple[Launch, ...]
    environment: Mapping[tuple[str, str], str]
    predictions: str

    @classmethod
    def read(cls, directory: Path, references: Mapping[str, str], predictions: str) -> Self:
        """Read a run whose cells these are, with their references, and the name of the table of its predictions.

        Raises StoreError for a table that cannot be read, UsageError where the run has other cells.
        """
        rows = {row["cell_id"]: row for row in tables.read_arrow(directory, "cells").to_pylist()}
        if rows.keys() != references.keys():
            raise UsageError(
                f"--resume {directory.name}: the run has other cells than these options ask for ({len(rows)} and "
                f"{len(references)}, {len(rows.keys() & references.keys())} in both); give the options it was made with"
            )
        finished = {name for name, row in rows.items() if row["reason_code"] not in _AGAIN}
        kept = {name: row for name, row in rows.items() if name in finished or row["status"] == Status.MEASURED.value}
        turns = _turns(directory)
        firsts: dict[str, int] = {}
        for name, window in sorted(turns):
            firsts.setdefault(name, window)
        staying = {(name, window) for name, window in firsts.items() if name in finished}
        for name, window in turns:
            if name in finished and references[name] != name:
                staying |= {(name, window), (references[name], window)}
        facts = {
            (fact["scope"], fact["key"]): fact["value"]
            for fact in tables.read_arrow(directory, "environment").to_pylist()
        }
        disturbed = [name for name in json.loads(facts.pop(DISTURBED, "[]")) if name in finished]
        if disturbed:
            facts[DISTURBED] = json.dumps(disturbed)
        return cls(
            kept,
            frozenset(finished),
            {name: figures for name, figures in metrics.beside_cells(directory).items() if name in kept},
            {key: found for key, found in turns.items() if key in staying},
            tuple(one for one in _launches(directory) if (one.cell_id, one.window) in staying),
            facts,
            predictions,
        )

    def keep_predictions(self, directory: Path) -> dict[str, set[str]]:
        """Make parts of what stays of the predictions, and delete the rest; ids of the cells that stay, by table.

        A cell that was stopped before it was scored has predictions of a part of its images, to be looked at, and they
        do not stay: what it had found is among its unscored, and stored when it is whole.

        Raises StoreError where the disk refuses.
        """
        whole = [name for name, row in self.rows.items() if name in self.finished or row["images"] is not None]
        names, there = pa.array(whole, pa.string()), set[str]()

        def staying(path: Path) -> Iterator[pa.Table]:
            for piece in parquet.groups(path):
                rest = piece.filter(pc.is_in(piece["cell_id"].cast(pa.string()), names))
                there.update(rest["cell_id"].unique().to_pylist())
                yield rest

        files = parts.files(directory, self.predictions)
        for path in files:
            tables.reduce_part(directory, self.predictions, path, staying(path))
        return {self.predictions: there} if files else {}


def _turns(directory: Path) -> dict[tuple[str, int], list[Turn]]:
    """All turns of a run by cell and window, in the order in which they are stored: the rows of each are together."""
    found: dict[tuple[str, int], list[Turn]] = {}
    if not parts.files(directory, "samples"):
        return found
    samples = tables.read_arrow(directory, "samples")
    samples = samples.set_column(0, "cell_id", samples["cell_id"].cast(pa.string()))
    keys, every_ms = samples.select(_TURN).to_pandas(), samples["latency_ms"].to_numpy()
    starts = np.flatnonzero(keys.ne(keys.shift()).any(axis=1))
    stops = np.append(starts, len(samples))[1:]
    for row, start, stop in zip(samples.take(starts).to_pylist(), starts, stops, strict=True):
        gpu = {column.removeprefix(_GPU): value for column, value in row.items() if column.startswith(_GPU)}
        turn = Turn(
            **{column: row[column] for column in (*_TURN, "cpu_per_wall", "steal", "cpu_due")},
            samples_ms=tuple(every_ms[start:stop].tolist()),
            gpu=OnGpu(**gpu) if any(value is not None for value in gpu.values()) else None,
            package_j=row["package_energy_j"],
        )
        found.setdefault((turn.cell_id, turn.window), []).append(turn)
    return found


def _launches(directory: Path) -> list[Launch]:
    if not parts.files(directory, "launches"):
        return []
    return [Launch(**row) for row in tables.read_arrow(directory, "launches").to_pylist()]

"""One run being written: rows appear as they are measured, and what is on disk is always whole.

Every cell has a row from the start ("interrupted": not reached yet), so that a run that is killed leaves a full
grid and every finished measurement behind.  Predictions and latency turns are added as parts of their tables, which are
written whole at the end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from bench.grid.matrix import Cell
from bench.reasons import CellProblem, Reason, Status
from bench.stats.launches import Launch
from bench.stats.turns import OnGpu, Turn, contaminated
from bench.store import metrics, parts, tables
from bench.store.before import Before
from bench.store.facts import DISTURBED
from bench.store.metrics import Figure


class RunStore:
    """Tables of one run under `directory`.  Every method that writes raises StoreError when it cannot."""

    def __init__(
        self,
        directory: Path,
        run_id: str,
        cells: Sequence[Cell],
        references: Mapping[str, str],
        before: Before | None = None,
    ) -> None:
        """Create the run's directory with a row per cell; `references` maps each cell's id to its reference's.

        `before` is what there is of the run already: its finished cells stay as they are, and nothing is written until
        `go_on` goes on with it.
        """
        self.directory = directory
        self.run_id = run_id
        self._rows: dict[str, dict[str, Any]] = {
            cell.cell_id: {
                "run_id": run_id,
                "cell_id": cell.cell_id,
                "model": cell.model,
                "option": cell.option.id,
                "precision": cell.precision,
                "target": cell.target,
                "imgsz": cell.imgsz,
                "batch": cell.batch,
                "threads": cell.threads,
                "reference_id": references[cell.cell_id],
                "status": Status.SKIPPED.value,
                "reason_code": Reason.INTERRUPTED.value,
                "reason": "The run was stopped before this cell was reached.",
            }
            for cell in cells
        }
        self._predicted: dict[str, set[str]] = {}
        self._beside: dict[str, dict[str, Figure]] = {}
        self._finished: Collection[str] = frozenset() if before is None else before.finished
        self._turns: dict[tuple[str, int], list[Turn]] = {}
        self._environment: dict[tuple[str, str], str] = {}
        self._launches: list[Launch] = []
        self.timed: tuple[Launch, ...] = ()
        """Launches of this process, without those that were there before."""
        self._unwritten = True
        self.before = before
        if before is None:
            self._write_environment()  # whoever finds the cells can show them
            self._flush()
        else:
            self._rows |= before.rows
            self._beside |= {name: dict(figures) for name, figures in before.beside.items()}
            self._turns |= before.turns
            self._environment |= before.environment
            self._launches += before.launches

    def go_on(self) -> None:
        """Make what is on disk of a run that is gone on with what stays of it."""
        assert self.before is not None, "only a run that there was before is gone on with"
        for name in tables.TABLES:
            parts.sweep_up(self.directory, name)
        self._predicted |= self.before.keep_predictions(self.directory)
        if parts.files(self.directory, "samples"):
            tables.restart(self.directory, "samples", self._samples())
        if parts.files(self.directory, "launches"):
            self.write_launches([])
        if parts.files(self.directory, "metrics"):
            beside = [row for name, one in self._beside.items() for row in metrics.of_cell(name, one.values())]
            tables.restart(self.directory, "metrics", [pa.Table.from_pylist(beside, schema=tables.METRICS)])
        self._write_environment()
        self._flush()

    def row(self, cell: Cell) -> Mapping[str, Any]:
        """What is known of a cell so far, by column."""
        return self._rows[cell.cell_id]

    def begin(self, cell: Cell) -> None:
        """Note when the first measurement of a cell began."""
        self._rows[cell.cell_id].setdefault("started", datetime.now(UTC))

    def update(self, cell: Cell, **columns: Any) -> None:
        """Set columns of a cell's row and write the table, unless it says all that already."""
        self.update_all({cell.cell_id: columns})

    def update_all(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Set columns of several rows, by cell id, and write the table once, unless it says all that already.

        A row that was finished before the run was gone on with stays as it is: a reference takes its turns again beside
        others.
        """
        for cell_id, columns in rows.items():
            unknown = columns.keys() - set(tables.CELLS.names)
            if unknown:
                raise KeyError(f"no such column: {', '.join(sorted(unknown))}")
            if cell_id in self._finished:
                continue
            row = self._rows[cell_id]
            self._unwritten |= any(name not in row or row[name] != value for name, value in columns.items())
            row.update(columns)
        if self._unwritten:
            self._flush()

    def add_seconds(self, cell: Cell, seconds: float) -> None:
        """Add wall time spent on a cell; written with the next update."""
        row = self._rows[cell.cell_id]
        row["seconds"] = (row.get("seconds") or 0.0) + seconds
        self._unwritten = True

    def conclude(self, cell: Cell, problem: CellProblem | None) -> None:
        """Set a cell's status: measured, or what the problem says.  A problem is never overwritten by a success."""
        row = self._rows[cell.cell_id]
        if problem is None:
            if row["reason_code"] in (Reason.INTERRUPTED.value, Reason.OK.value):
                self.update(cell, status=Status.MEASURED.value, reason_code="", reason="")
        else:
            self.update(cell, status=problem.status.value, reason_code=problem.reason.value, reason=problem.text)

    def add_figures(self, cell: Cell, figures: Iterable[Figure], **columns: Any) -> None:
        """Set figures of a cell, with other columns of its row, and write the table.

        A figure that `cells` has no column for is a part of the table `metrics`, which `write_metrics` writes.
        """
        beside: dict[str, Figure] = {}
        for figure in figures:
            if not metrics.in_cells([figure.metric]):
                beside[figure.metric] = figure
                continue
            columns[figure.metric] = figure.value
            ends = {f"{figure.metric}_low": figure.low, f"{figure.metric}_high": figure.high}
            columns |= {name: ends[name] for name in metrics.in_cells(ends)}
        if beside:
            self._beside.setdefault(cell.cell_id, {}).update(beside)
            # Before the row: no row is on disk then that lacks some of its figures.
            tables.add_part(self.directory, "metrics", metrics.of_cell(cell.cell_id, beside.values()))
        self.update(cell, **columns)

    def add_predictions(self, table: str, rows: pa.Table) -> None:
        """Add the predictions of a cell to the table of its task, in order of images; they are then on disk alone.

        What comes of a cell that has some already is passed over.
        """
        cells, there = set(rows["cell_id"].unique().to_pylist()), self._predicted.setdefault(table, set())
        if cells & there:
            return
        order = np.argsort(rows["image_id"].to_numpy(), kind="stable")
        tables.add_part(self.directory, table, rows.take(order))
        there |= cells

    def write_metrics(self) -> None:
        """Write the figures of all cells as the long table `metrics`."""
        tables.write_table(self.directory, "metrics", metrics.from_cells(self._rows.values(), self._beside))

    def arrange_predictions(self) -> None:
        """Write the predictions image by image, each cell's in the order they came: a third smaller.

        Cells of equal outputs repeat each other's boxes, and a compressor sees that only where they are close by.
        """
        for table in sorted(self._predicted):
            tables.join_parts(self.directory, table, "image_id")

    def write(self, name: str, rows: pa.Table) -> None:
        """Write a whole table."""
        tables.write_table(self.directory, name, rows)

    @property
    def interrupted(self) -> bool:
        """Whether a cell is still to be measured, or to be measured to the end."""
        return any(row["reason_code"] == Reason.INTERRUPTED.value for row in self._rows.values())

    @property
    def next_window(self) -> int:
        """The number of the first time window that there is nothing of yet."""
        return max((window for _, window in self._turns), default=-1) + 1

    @property
    def turns(self) -> list[Turn]:
        """All latency turns, cell by cell and window by window."""
        return [turn for group in self._turns.values() for turn in group]

    @property
    def launches(self) -> list[Launch]:
        """Those of all timed cells."""
        return [*self._launches, *self.timed]

    @property
    def environment(self) -> Mapping[tuple[str, str], str]:
        """The facts recorded, by scope and key."""
        return self._environment

    def add_turns(self, turns: Sequence[Turn]) -> None:
        """Add latency turns to the samples, each marked by the turns of its cell and window so far."""
        rows = []
        for turn in turns:
            group = self._turns.setdefault((turn.cell_id, turn.window), [])
            group.append(turn)
            rows += _of_turn(turn, bad=contaminated(group)[-1])
        tables.add_part(self.directory, "samples", rows)

    def write_turns(self) -> None:
        """Write the samples of all turns as a whole, each marked when its turn was contaminated."""
        if parts.files(self.directory, "samples"):
            tables.write_pieces(self.directory, "samples", self._samples())

    def write_launches(self, launches: Iterable[Launch]) -> None:
        """Write the launches of all timed cells, anew as a whole."""
        self.timed = tuple(launches)
        tables.write_table(self.directory, "launches", [asdict(launch) for launch in self.launches])

    def add_environment(self, scope: str, facts: Mapping[str, Any]) -> None:
        """Record facts about the run, the machine or an environment, and write the table."""
        texts = {(scope, key): value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
        if texts.items() <= self._environment.items():
            return  # told before: every cell of a family names the same environment
        self._environment |= texts
        self._write_environment()

    def note_disturbed(self, names: Iterable[str]) -> None:
        """Add cells to those that the run lists as disturbed, and write the table."""
        scope, key = DISTURBED
        known = json.loads(self._environment.get(DISTURBED, "[]"))
        fresh = [name for name in names if name not in self._finished]
        if fresh:
            self.add_environment(scope, {key: list(dict.fromkeys([*known, *fresh]))})

    def _samples(self) -> Iterator[pa.Table]:
        """The table of all turns, of which some are rows at a time."""
        rows: list[dict[str, Any]] = []
        for group in self._turns.values():
            for turn, bad in zip(group, contaminated(group), strict=True):
                rows += _of_turn(turn, bad=bad)
                if len(rows) >= tables.PIECE:
                    yield pa.Table.from_pylist(rows, schema=tables.SAMPLES)
                    rows = []
        yield pa.Table.from_pylist(rows, schema=tables.SAMPLES)

    def _write_environment(self) -> None:
        rows = [{"scope": scope_, "key": key, "value": value} for (scope_, key), value in self._environment.items()]
        tables.write_table(self.directory, "environment", rows)

    def _flush(self) -> None:
        tables.write_table(self.directory, "cells", self._rows.values())
        self._unwritten = False


def _of_turn(turn: Turn, *, bad: bool) -> list[dict[str, Any]]:
    """Rows of the table `samples` for a turn, contaminated where it is `bad`."""
    gpu = {f"gpu_{name}": value for name, value in asdict(turn.gpu or OnGpu()).items()}
    return [
        {
            "cell_id": turn.cell_id,
            "window": turn.window,
            "launch": turn.launch,
            "round": turn.round,
            "order": turn.order,
            "index": index,
            "latency_ms": sample,
            "cpu_per_wall": turn.cpu_per_wall,
            "cpu_due": turn.cpu_due,
            "steal": turn.steal,
            **gpu,
            "package_energy_j": turn.package_j,
            "contaminated": bad,
        }
        for index, sample in enumerate(turn.samples_ms)
    ]

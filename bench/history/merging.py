"""Runs merged into the history, each once, whatever the order they come in; and folders of months merged into years.

Everything is written by `bench.history.commits`: a run is in the history with all its tables, or it is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.files import exists
from bench.history import arrivals, layout
from bench.history.arrivals import Arrival
from bench.history.commits import Written, held, publish
from bench.history.layout import KEPT, SCHEMAS, UNDATED, Partition
from bench.reasons import StoreError, UsageError
from bench.store import migration, parquet, tables

Rows = Mapping[str, tuple[Partition, Mapping[str, Any]]]
"""Rows of the table `runs` by the name of the run, each with the folder that holds it."""


@dataclass(frozen=True)
class Added:
    """What became of runs that were to be added, by name: new, in place of an earlier state, there already.

    `refused` are folders whose run cannot be read, each with the reason; all others are in the history.
    """

    added: tuple[str, ...]
    replaced: tuple[str, ...]
    known: tuple[str, ...]
    refused: Mapping[Path, str]


@dataclass(frozen=True)
class Compacted:
    """How many folders the history had, and has now."""

    before: int
    after: int


def add(root: Path, folders: Iterable[Path], link: str = "") -> Added:
    """Merge every run in `folders` into the history at `root`, which is made where there is none.

    A run that was added before is left as it is.  Of two states of one run (it was stopped, and taken up again) the one
    with more in it stays, whichever comes first.  One that cannot be read is left out.  `link` is where the runs are
    kept.
    Raises UsageError for folders without runs and for different runs of one name, StoreError for a history that cannot
    be read or written; nothing is added then.
    """
    refused: dict[Path, str] = {}
    arrived = list(_introduced(arrivals.find(folders), link, refused))
    with held(root):
        known = _known(root)
        fresh = _chosen(arrived, known)
        if fresh:
            publish(root, _merged(root, fresh, known, refused))
    whole = {one.run_id for states in fresh for one in states if one.directory not in refused}
    lost = {states[0].run_id for states in fresh} - whole
    replaced = whole & known.keys()
    there = {one.run_id for one in arrived} - whole - (lost - known.keys())
    return Added(tuple(sorted(whole - replaced)), tuple(sorted(replaced)), tuple(sorted(there)), refused)


def compact(root: Path) -> Compacted:
    """Merge the months of every year but the newest into one folder a year, and bring all to the present schema.

    Raises UsageError where there is no history, StoreError for what cannot be read or written.
    """
    require(root)
    with held(root):
        before = layout.partitions(root)
        newest = max((one.year for one in before if one.period != UNDATED), default="")
        years: dict[Partition, list[Partition]] = {}
        for one in before:
            over = one.period != UNDATED and one.year < newest
            years.setdefault(Partition(one.machine, one.year) if over else one, []).append(one)
        stale = {year: months for year, months in years.items() if months != [year] or _version(root, year) < _NOW}
        gone = [month for year, months in stale.items() for month in months if month != year]
        if stale:
            joined = ((year, _joined([present(root, one) for one in months])) for year, months in stale.items())
            publish(root, joined, gone)
        return Compacted(len(before), len(layout.partitions(root)))


def require(root: Path) -> None:
    """Raise UsageError unless there is a history."""
    if not exists(root) or not root.is_dir() or not layout.partitions(root):
        raise UsageError(f"no history in {root}; make one with `yolo11-bench history add FOLDER`, or name its folder")


def require_present(root: Path) -> None:
    """Raise UsageError where a folder of the history is of an older schema, StoreError where of a newer one."""
    if any(_version(root, one) < _NOW for one in layout.partitions(root)):
        raise UsageError(
            f"{root}: was written by an older bench; `yolo11-bench history compact --history {root}` brings it to the "
            "present schema"
        )


def present(root: Path, partition: Partition) -> dict[str, pa.Table]:
    """The tables of a folder of the history as the present schema has them.  Raises StoreError."""
    folder = root / partition.path
    stored = {name: parquet.read(folder / f"{name}.parquet") for name in SCHEMAS}
    if _version(root, partition) == _NOW:
        return {name: tables.fitted(table, SCHEMAS[name]) for name, table in stored.items()}
    runs = tables.fitted(stored["runs"], SCHEMAS["runs"])
    each = [_migrated(folder, stored, run_id) for run_id in runs["run_id"].to_pylist()]
    return {"runs": runs} | {name: _concat([one[name] for one in each], name) for name in KEPT}


_NOW = tables.SCHEMA_VERSION


def _version(root: Path, partition: Partition) -> int:
    path = root / partition.path / "runs.parquet"
    return migration.version_of(path, parquet.read(path, columns=["run_id"]))


def _migrated(folder: Path, stored: Mapping[str, pa.Table], run_id: str) -> dict[str, pa.Table]:
    """The tables of one run out of those of many, taken through the steps from the version they were written in."""

    def own(name: str) -> tuple[int, pa.Table] | None:
        if name not in stored:
            return None
        table = stored[name]
        rows = table.filter(pc.equal(table["run_id"].cast(pa.string()), run_id))
        rows = rows if name == "cells" else rows.drop_columns(["run_id"])
        return (migration.version_of(folder / f"{name}.parquet", table), rows) if len(rows) else None

    found = {}
    for name in KEPT:
        table = migration.present(name, own)
        found[name] = arrivals.of_run(name, tables.TABLES[name].empty_table() if table is None else table, run_id)
    return found


def _known(root: Path) -> dict[str, tuple[Partition, Mapping[str, Any]]]:
    """Every run of the history."""
    return {
        row["run_id"]: (partition, row)
        for partition in layout.partitions(root)
        for row in parquet.read(root / partition.path / "runs.parquet").to_pylist()
    }


def _introduced(folders: Iterable[Path], link: str, refused: dict[Path, str]) -> Iterator[Arrival]:
    for path in folders:
        try:
            yield arrivals.introduce(path, link)
        except StoreError as error:
            refused[path] = str(error)


def _chosen(arrived: Sequence[Arrival], known: Rows) -> list[list[Arrival]]:
    """Of each run its states, fullest first, of which one is to be written: none where the history holds as much.

    Raises UsageError where one name stands for two runs.
    """
    states: dict[str, list[Arrival]] = {}
    for one in sorted(arrived, key=lambda one: str(one.directory)):
        others = states.setdefault(one.run_id, [])
        if others:
            _require_same(one, others[0].machine, others[0].row, str(others[0].directory))
        others.append(one)
    fresh = []
    for run_id, found in states.items():
        fuller = sorted(found, key=lambda one: _weight(one.row), reverse=True)
        if run_id in known:
            partition, row = known[run_id]
            _require_same(found[0], partition.machine, row, "the history")
            fuller = [one for one in fuller if _weight(one.row) > _weight(row)]
        if fuller:
            fresh.append(fuller)
    return fresh


def _require_same(one: Arrival, machine: str, row: Mapping[str, Any], where: str) -> None:
    if (one.machine, one.row["started"]) != (machine, row["started"]):
        raise UsageError(
            f"{one.directory}: its run {one.run_id!r} is another than the one of that name in {where} (machine or "
            "start differ), and the history knows a run by its name; leave one of them out"
        )


def _weight(row: Mapping[str, Any]) -> tuple[int, int, str]:
    """What decides between two states of a run: what was measured, then what was timed, then nothing but the bytes."""
    return row["measured"], row["samples"], row["digest"]


def _merged(root: Path, fresh: Sequence[Sequence[Arrival]], known: Rows, refused: dict[Path, str]) -> Iterator[Written]:
    """Each folder that runs go into, with what it held and the runs; one folder at a time.

    What shows to be damaged only now joins the `refused`.
    """
    there = set(layout.partitions(root))
    into: dict[Partition, list[Sequence[Arrival]]] = {}
    for states in fresh:
        into.setdefault(_place(states[0], known, there), []).append(states)
    for partition, runs in sorted(into.items()):
        whole = {states[0].run_id: read for states in runs if (read := _read(states, refused)) is not None}
        if whole:
            held_now = [_without(present(root, partition), set(whole))] if partition in there else []
            yield partition, _joined([*held_now, *whole.values()])


def _read(states: Sequence[Arrival], refused: dict[Path, str]) -> dict[str, pa.Table] | None:
    """The tables of the first state of a run that can be read; None where none can."""
    for one in states:
        try:
            return arrivals.read(one)
        except StoreError as error:
            refused[one.directory] = str(error)
    return None


def _place(run: Arrival, known: Rows, there: set[Partition]) -> Partition:
    """Where a run goes: where it is already, else into its year where that is one folder, else into its month."""
    if run.run_id in known:
        return known[run.run_id][0]
    month = Partition(run.machine, run.month)
    year = Partition(run.machine, month.year)
    return year if year in there else month


def _without(held_now: Mapping[str, pa.Table], run_ids: set[str]) -> dict[str, pa.Table]:
    gone = pa.array(sorted(run_ids))
    return {
        name: table.filter(pc.invert(pc.is_in(table["run_id"].cast(pa.string()), value_set=gone)))
        for name, table in held_now.items()
    }


def _joined(parts: Sequence[Mapping[str, pa.Table]]) -> dict[str, pa.Table]:
    """Tables of several runs as one of each name, run after run in the order in which they began."""
    runs = _concat([part["runs"] for part in parts], "runs")
    runs = runs.sort_by([("started", "ascending"), ("run_id", "ascending")])
    order = {run_id: place for place, run_id in enumerate(runs["run_id"].to_pylist())}
    return {"runs": runs} | {name: _ordered(_concat([part[name] for part in parts], name), order) for name in KEPT}


def _ordered(table: pa.Table, order: Mapping[str, int]) -> pa.Table:
    """Rows run after run; those of a run stay as they are."""
    names = table["run_id"].combine_chunks()
    names = names if pa.types.is_dictionary(names.type) else names.dictionary_encode()
    ranks = pa.array([order[name] for name in names.dictionary.to_pylist()], pa.int32())
    return table.take(np.argsort(ranks.take(names.indices).to_numpy(), kind="stable"))


def _concat(parts: Sequence[pa.Table], name: str) -> pa.Table:
    try:
        return pa.concat_tables(parts).unify_dictionaries()
    except pa.ArrowException as error:
        raise StoreError(f"tables {name} of these runs do not fit together: {error!r}") from error

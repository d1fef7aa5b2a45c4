"""Runs of older versions of the schema: small steps from each version to the next, made of a table as it is read.

Files stay as they were written.  A version is counted up where something that was there before comes to mean something
else, or is called otherwise; what then becomes of an older table is a `Change` in a step at the end of `STEPS`: a pure
function of that table, and of those beside it.  A new column or a new table needs no step: in older runs the one is
null, and the other is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bench.grid import machine
from bench.reasons import StoreError
from bench.stats.contrast import LAUNCHES_MIN
from bench.stats.percentile import percentile_bound

Beside = Callable[[str], pa.Table | None]
"""Another table of the same run, as the version had it that is left; None where the run has none."""
Stored = Callable[[str], tuple[int, pa.Table] | None]
"""A table as it was written, with its version; None where the run has none."""

_ROUND = ["window", "launch", "round"]


@dataclass(frozen=True)
class Change:
    """What a step makes of one table, and that in words."""

    table: str
    what: str
    make: Callable[[pa.Table, Beside], pa.Table]


def present(name: str, stored: Stored) -> pa.Table | None:
    """A table of a run as the present version has it; None where the run has none."""
    return _at(VERSION, name, stored)


def _at(version: int, name: str, stored: Stored) -> pa.Table | None:
    """A table as `version` has it; one of a later version as it is."""
    found = stored(name)
    if found is None:
        return None
    written, table = found
    for before in range(written, version):
        for change in STEPS[before - 1]:
            if change.table == name:
                table = change.make(table, partial(_at, before, stored=stored))
    return table


# -- from version 1: guests are launched anew between rounds ---------------------------------------------------------


def _one_launch(samples: pa.Table, _beside: Beside) -> pa.Table:
    """Guests lived as long as their window: all that was timed in it is of its first launch."""
    return samples.append_column("launch", pa.array(np.zeros(len(samples), np.int16)))


def _over_launches(cells: pa.Table, _beside: Beside) -> pa.Table:
    """Intervals were over rounds and are over launches, of which there was one, and one bounds nothing.

    A cell that is its own reference keeps its ratio of 1, which is exact.
    """
    timed, exact = pc.is_valid(cells["latency_rounds"]), pc.equal(cells["latency_ratio"], 1.0)
    one, none = (pa.scalar(value, pa.int32()) for value in (1, None))
    cells = cells.append_column("latency_launches", pc.if_else(timed, one, none))
    for name in ("latency_ratio_low", "latency_ratio_high"):
        cells = _with(cells, name, pc.if_else(exact, cells[name], pa.scalar(None, pa.float64())))
    return cells


# -- from version 2: bounds of percentiles, hashes of contents, whole names of machines ------------------------------


def _bounds(cells: pa.Table, beside: Beside) -> pa.Table:
    """Percentiles of the samples become what the columns hold since: bounds of the true ones, from the same samples.

    They already are where there is a column for the autocorrelation of launches, which came with them.
    """
    if "latency_autocorrelation" in cells.column_names:
        return cells
    ids, references = cells["cell_id"].to_pylist(), cells["reference_id"].to_pylist()
    samples = beside("samples")
    clean = {}
    if samples is not None:
        clean = _clean(samples.to_pandas(use_threads=False), dict(zip(ids, references, strict=True)))
    for name, share in (("latency_p90_ms", 90), ("latency_p99_ms", 99)):
        bounds = [percentile_bound(clean[cell], share) if cell in clean else None for cell in ids]
        cells = _with(cells, name, pa.array(bounds, pa.float64()))
    return cells


def _clean(samples: pd.DataFrame, references: Mapping[str, str | None]) -> dict[str, NDArray[np.float64]]:
    """Samples in ms of each cell's rounds that nothing disturbed, neither for it nor for its reference.

    Cells that have fewer than `LAUNCHES_MIN` launches with such a round are not there: no bound was ever given of them.
    """
    disturbed = samples.groupby(["cell_id", *_ROUND], observed=True)["contaminated"].any()
    quiet = disturbed[~disturbed].reset_index()
    rounds = {str(cell): _rounds(rows) for cell, rows in quiet.groupby("cell_id", observed=True)}
    timed, found = {str(cell) for cell in samples["cell_id"].unique()}, {}
    for cell, rows in samples.groupby("cell_id", observed=True):
        own = _rounds(rows)
        reference = references.get(str(cell))
        shared = rounds.get(str(cell), own[:0])
        if reference in timed:
            shared = shared.intersection(rounds.get(str(reference), own[:0]))
        if len(shared.droplevel("round").unique()) >= LAUNCHES_MIN:
            found[str(cell)] = rows["latency_ms"].to_numpy(np.float64)[own.isin(shared)]
    return found


def _rounds(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[_ROUND])


def _facts(environment: pa.Table, _beside: Beside) -> pa.Table:
    """The hash of the data was one of file names, sizes and labels, without pixels: it is no later hash's equal.

    Of the task nothing was said while there was one.
    """
    of_the_run = pc.equal(environment["scope"], "run")
    named = pc.and_(of_the_run, pc.equal(environment["key"], "data_sha256"))
    environment = _with(environment, "key", pc.if_else(named, "layout_sha256", environment["key"]))
    if "task" in environment.filter(of_the_run)["key"].to_pylist():
        return environment
    task = {"scope": "run", "key": "task", "value": "detect"}
    return pa.concat_tables([environment, pa.Table.from_pylist([task], schema=environment.schema)])


def _whole_names(probes: pa.Table, beside: Beside) -> pa.Table:
    """Machines were called by processor and system alone; the run's own gets its whole name."""
    environment = beside("environment")
    if environment is None:
        return probes
    rows = environment.filter(pc.equal(environment["scope"], "machine"))
    facts = dict(zip(rows["key"].to_pylist(), rows["value"].to_pylist(), strict=True))
    former = machine.short_name({name: facts.get(name, "") for name in ("cpu", "system")})
    own = pc.equal(probes["machine"], former)
    return _with(probes, "machine", pc.if_else(own, machine.short_name(facts), probes["machine"]))


# -- from version 3: a run may be of several models -----------------------------------------------------------------


def _of_the_one_model(cells: pa.Table, beside: Beside) -> pa.Table:
    """Each cell was of the one model of its run, whose hash the run told."""
    environment = beside("environment")
    digest = None
    if environment is not None:
        told = pc.and_(pc.equal(environment["scope"], "run"), pc.equal(environment["key"], "model_sha256"))
        digest = next(iter(environment.filter(told)["value"].to_pylist()), None)
    return cells.append_column("model_sha256", pa.array([digest] * len(cells), pa.string()))


def _with(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    """A table with other values in a column."""
    place = table.column_names.index(name)
    return table.set_column(place, table.schema.field(place), values)


STEPS: tuple[tuple[Change, ...], ...] = (
    (
        Change("samples", "`launch` is 0: guests were not launched anew between rounds", _one_launch),
        Change(
            "cells",
            "`latency_launches` is 1 where the cell was timed, and `latency_ratio_low` and `_high` are null: they were "
            "ends of an interval over rounds",
            _over_launches,
        ),
    ),
    (
        Change(
            "cells",
            "`latency_p90_ms` and `latency_p99_ms` are computed from the samples: they were percentiles of these, and "
            "are bounds of the true ones",
            _bounds,
        ),
        Change(
            "environment",
            "`data_sha256` is called `layout_sha256`: it was made of names, sizes and labels, without the pixels; "
            "`task` is `detect` where it was not told",
            _facts,
        ),
        Change("probes", "`machine` is the machine's whole name; it was processor and system", _whole_names),
    ),
    (
        Change(
            "cells",
            "`model_sha256` is that of the run in `environment`: a run was of one model. There, `model` and "
            "`model_sha256` may name several since, in order of their names, with commas between them",
            _of_the_one_model,
        ),
    ),
)
"""From version 1 to 2, from 2 to 3, and so on; no table has two changes in a step."""

CHANGED = frozenset(change.table for step in STEPS for change in step)
"""Tables that some step changes."""

VERSION = len(STEPS) + 1
"""The present version of the schema."""


def version_of(path: Path, table: pa.Table) -> int:
    """The version that a file of a table was written in.  Raises StoreError for none, and for one of the future."""
    told = (table.schema.metadata or {}).get(b"schema_version", b"").decode(errors="replace")
    if not told.isdecimal() or int(told) < 1:
        raise StoreError(f"{path} has schema version {told or 'none'}: it is no table that the bench has written")
    if int(told) > VERSION:
        raise StoreError(
            f"{path} has schema version {told}, and this bench reads versions up to {VERSION}: a newer one wrote it. "
            "Update the bench (`git pull` in a checkout, `pip install -U yolo11-deployment-bench` elsewhere), and read "
            "it again"
        )
    return int(told)

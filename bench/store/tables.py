"""Results on disk: a directory of Parquet tables per run, each with an explicit, versioned schema.

`results/runs/<run id>/` holds `cells`, `metrics`, `samples`, `launches`, `detections`, `ground_truth` and
`environment`, one Parquet file each, and what `probe` and `claims` add: `probes`, `packages` and `claims`.
`docs/results-format.md` is generated from the schemas below and in `bench/store/findings.py` (`python -m bench
schema`), so a column cannot exist without its unit and meaning.  A table is replaced as a whole by an atomic rename: a
reader, or a crash, sees the last complete version and never half a file.  What grows as a run goes on (`samples`, and
the predictions of its task) is kept in parts until the end (`bench/store/parts.py`).  Runs of older versions are
brought to the present one as they are read (`bench/store/migration.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from bench.reasons import StoreError
from bench.store import migration, parquet, parts, sound
from bench.store.findings import CLAIMS, PACKAGES, PROBES
from bench.store.merging import merged
from bench.store.parquet import Only, field

SCHEMA_VERSION = migration.VERSION
PIECE = 2**16
"""Rows in a group of a part: as many of each part are in memory while they are joined.  And those of a piece."""
_LARGE = 2**22
"""Rows from which a table is converted column by column."""

TIMED_ON = "machine:"
"""What the scope of facts begins with that are of a machine which timed cells and is not the run's; its id follows."""

_DICT = pa.dictionary(pa.int32(), pa.string())


def _over_launches(name: str, kind: pa.DataType, unit: str, meaning: str) -> list[pa.Field]:
    """Columns of a figure that each launch of a timed cell gives anew."""
    return [
        field(name, kind, unit, f"{meaning}; of a timed cell the median of its launches", "lower"),
        field(f"{name}_low", kind, unit, "Lower end of its 95 % interval, an order statistic; null under six"),
        field(f"{name}_high", kind, unit, "Upper end of that interval"),
    ]


_ON_DEVICE = (
    "One inference of `batch` images on the GPU alone, between two CUDA events, input and output there; a second "
    "figure beside latency_p50_ms, which decides nothing"
)
_AS_GRAPH = "device_ms of the inference captured as a CUDA graph and replayed"

_CELL_KEY = [
    field("run_id", pa.string(), "", "Name of the run; also its directory"),
    field("cell_id", pa.string(), "", "model/option-precision-target-imgsz-bBATCH-tTHREADS, unique within a run"),
]

CELLS = pa.schema(
    [
        *_CELL_KEY,
        field("model", pa.string(), "", "File stem of the checkpoint, with a hash where the run has two of one"),
        field("model_sha256", pa.string(), "sha256", "Hash of the checkpoint's file"),
        field("option", pa.string(), "", "Deployment option, one of the ids in matrices/options"),
        field("precision", pa.string(), "", "Precision asked for, as the option's matrix entry names it"),
        field("target", pa.string(), "", "Hardware target, one of the ids in matrices/targets.toml"),
        field("imgsz", pa.int32(), "px", "Side of the square network input"),
        field("batch", pa.int32(), "images", "Images per inference"),
        field("threads", pa.int32(), "threads", "Intra-op threads asked for; the guest is pinned to as many CPUs"),
        field("cpus", pa.string(), "", "CPUs the guest was pinned to; on systems without affinity, those it shared"),
        field("reference_id", pa.string(), "", "cell_id of the PyTorch FP32 cell it is compared with"),
        field("status", pa.string(), "", "measured, exported (only: not run here), skipped, failed or invalid"),
        field("reason_code", pa.string(), "", "Stable code of bench/reasons.py; empty when all was measured"),
        field("reason", pa.string(), "", "The cause in words; empty when all was measured"),
        field("map50_95", pa.float64(), "0..1", "COCO mAP over IoU 0.50:0.95, all sizes", "higher"),
        field("map50", pa.float64(), "0..1", "COCO mAP at IoU 0.50", "higher"),
        field("map75", pa.float64(), "0..1", "COCO mAP at IoU 0.75", "higher"),
        field(
            "map_small", pa.float64(), "0..1", "mAP50-95 of objects under 32x32 px; null when there are none", "higher"
        ),
        field(
            "map_medium", pa.float64(), "0..1", "mAP50-95 of objects from 32x32 to 96x96 px; null when none", "higher"
        ),
        field(
            "map_large", pa.float64(), "0..1", "mAP50-95 of objects over 96x96 px; null when there are none", "higher"
        ),
        field("map_per_class", pa.map_(pa.string(), pa.float64()), "0..1", "mAP50-95 of each class that has objects"),
        field("map_delta", pa.float64(), "0..1", "map50_95 minus that of PyTorch FP32 on the same images", "higher"),
        field("map_delta_low", pa.float64(), "0..1", "Lower end of the 95 % paired bootstrap interval of map_delta"),
        field("map_delta_high", pa.float64(), "0..1", "Upper end of that interval"),
        field("images", pa.int32(), "images", "Validation images evaluated"),
        field("evaluator", pa.string(), "", "COCO evaluator and its version"),
        field(
            "latency_p50_ms",
            pa.float64(),
            "ms",
            "Median latency of one inference of `batch` images, clean rounds",
            "lower",
        ),
        field(
            "latency_p90_ms",
            pa.float64(),
            "ms",
            "Bound of the 90th percentile: with 99 % confidence 90 % of inferences take less; null under 64 samples",
            "lower",
        ),
        field(
            "latency_p99_ms",
            pa.float64(),
            "ms",
            "Bound of the 99th percentile, likewise; null under 662 samples",
            "lower",
        ),
        field(
            "latency_ratio",
            pa.float64(),
            "",
            "Time of PyTorch FP32 over this cell's, per image; above 1 is faster",
            "higher",
        ),
        field("latency_ratio_low", pa.float64(), "", "Lower end of its 95 % interval over launches"),
        field("latency_ratio_high", pa.float64(), "", "Upper end of that interval"),
        field(
            "latency_autocorrelation",
            pa.float64(),
            "",
            "Of neighbouring launches, paid for in the interval where positive; 0 where they are too few to show any",
        ),
        field("latency_samples", pa.int32(), "samples", "Timed inferences in clean rounds"),
        field("latency_launches", pa.int32(), "launches", "Launches the ratio uses (see samples)"),
        field("latency_rounds", pa.int32(), "rounds", "Rounds the ratio uses"),
        field(
            "latency_rounds_contaminated",
            pa.int32(),
            "rounds",
            "Rounds contaminated for the cell or its reference, and left out; used, and no interval given, where fewer "
            "than three launches had a clean round",
        ),
        field(
            "latency_stop",
            pa.string(),
            "",
            "What fixed the number of launches: interval (the width aimed at), budget, launches (the cap), reference "
            "(it failed), failed (its own process did), interrupted (the run was stopped); or why no latency was taken",
        ),
        field("timed_on", pa.string(), "", "Id of the machine that timed it; null where none did, or in older runs"),
        field("size_bytes", pa.int64(), "bytes", "All files of the artifact", "lower"),
        field("env_bytes", pa.int64(), "bytes", "Installed size of the run-only environment", "lower"),
        *_over_launches("import_ms", pa.float64(), "ms", "Importing the runtime in a fresh process"),
        *_over_launches("load_ms", pa.float64(), "ms", "From artifact on disk to ready session, imports done"),
        *_over_launches("first_inference_ms", pa.float64(), "ms", "The first inference after loading"),
        field("rss_after_load_bytes", pa.int64(), "bytes", "Peak resident memory of the guest after loading", "lower"),
        *_over_launches("peak_rss_bytes", pa.int64(), "bytes", "Peak resident memory of the guest after inference"),
        field("gpu_bytes", pa.int64(), "bytes", "Memory of the NVIDIA GPU that the guest held after it", "lower"),
        *_over_launches(
            "energy_image_j",
            pa.float64(),
            "J",
            "Energy per image of the whole GPU board, of cells on a processor of its packages; clean rounds",
        ),
        *_over_launches("device_ms", pa.float64(), "ms", _ON_DEVICE),
        *_over_launches("device_graph_ms", pa.float64(), "ms", _AS_GRAPH),
        field("parity_images", pa.int32(), "images", "Images on which raw outputs were compared with PyTorch FP32"),
        field("parity_box_max", pa.float64(), "px", "Largest difference of a raw box coordinate", "lower"),
        field("parity_box_mean", pa.float64(), "px", "Mean difference of raw box coordinates", "lower"),
        field(
            "parity_box_p999", pa.float64(), "px", "99.9th percentile of the difference of raw box coordinates", "lower"
        ),
        field("parity_score_max", pa.float64(), "0..1", "Largest difference of a raw class score", "lower"),
        field("parity_score_mean", pa.float64(), "0..1", "Mean difference of raw class scores", "lower"),
        field(
            "parity_score_p999",
            pa.float64(),
            "0..1",
            "99.9th percentile of the difference of raw class scores",
            "lower",
        ),
        field(
            "attested",
            pa.string(),
            "JSON",
            "What the runtime itself says it ran; its key declared lists the keys that only repeat what was asked for "
            "or what the file says, read from nothing that ran (docs/attestation.md)",
        ),
        field("expected", pa.string(), "JSON", "What was asked for, in the same keys"),
        field(
            "compute",
            pa.string(),
            "",
            "Arithmetic the runtime says its convolutions ran in; read from what ran, unless attested declares it",
        ),
        field(
            "network",
            pa.string(),
            "",
            "What of the network the guest could reach: none (in a network namespace), or why it was not isolated",
        ),
        field(
            "writes",
            pa.string(),
            "",
            "Where the guest could write files: its own folders (by Landlock, with its version), or why anywhere",
        ),
        field("artifact_key", pa.string(), "sha256", "Content address of the artifact in the cache"),
        field("artifact_sha256", pa.string(), "sha256", "Hash over the artifact's files"),
        field("export_seconds", pa.float64(), "s", "Time the export took when the artifact was made", "lower"),
        field("export_network", pa.string(), "", "network, of its exporter; null where the artifact is from before"),
        field("export_writes", pa.string(), "", "writes, of its exporter; likewise"),
        field("calibration", pa.string(), "", "Split and number of images used for calibration; empty when none"),
        field("reproduce", pa.string(), "", "Command that measures this cell again"),
        field("started", pa.timestamp("ms", tz="UTC"), "UTC", "When the first measurement of the cell began"),
        field("seconds", pa.float64(), "s", "Wall time spent on the cell, its share of latency rounds included"),
    ]
)

SAMPLES = pa.schema(
    [
        field("cell_id", _DICT, "", "Cell the sample belongs to"),
        field("window", pa.int16(), "", "Time window: cells of one window were interleaved with each other"),
        field("launch", pa.int16(), "", "Launch within the window: a process, new or forked"),
        field("round", pa.int16(), "", "Round within the window; the reference has a turn for about every ten in it"),
        field("order", pa.int16(), "", "Position of the turn within the round (random); a reference may have several"),
        field("index", pa.int16(), "", "Position of the sample within the turn"),
        field("latency_ms", pa.float64(), "ms", "One inference, measured inside the guest with the monotonic clock"),
        field("cpu_per_wall", pa.float32(), "", "CPU time over wall time of the guest during the turn"),
        field(
            "cpu_due", pa.float32(), "", "What that is at least if nothing disturbs; null where an inference may rest"
        ),
        field("steal", pa.float32(), "0..1", "Share of CPU time stolen by the hypervisor during the turn"),
        field("gpu_sm_mhz", pa.float32(), "MHz", "Clock of the GPU's multiprocessors at the end; null off a GPU"),
        field("gpu_temperature_c", pa.float32(), "degrees C", "Temperature of the GPU then"),
        field("gpu_power_w", pa.float32(), "W", "What the GPU's board drew then; on newer cards the mean of a second"),
        field("gpu_energy_j", pa.float32(), "J", "What it took per inference of the turn; null of turns under 0.3 s"),
        field("gpu_slowed", pa.bool_(), "", "Whether heat or the hardware's protection held the GPU back then"),
        field("gpu_others", pa.float32(), "", "Share of the time for which others' processes kept the GPU busy"),
        field(
            "package_energy_j",
            pa.float32(),
            "J",
            "What the processor's packages took per inference of the turn; null of turns under 0.1 s, and where "
            "they do not tell it",
        ),
        field("contaminated", pa.bool_(), "", "The turn was disturbed (see docs/method.md) and its round left out"),
    ]
)

LAUNCHES = pa.schema(
    [
        field("cell_id", _DICT, "", "Timed cell whose process it was"),
        field("window", pa.int16(), "", "Time window, as in samples"),
        field("launch", pa.int16(), "", "Launch with which the process began, as in samples"),
        field("import_ms", pa.float64(), "ms", "Importing the runtime"),
        field("load_ms", pa.float64(), "ms", "From artifact on disk to ready session, imports done"),
        field("first_inference_ms", pa.float64(), "ms", "The first inference after loading"),
        field("peak_rss_bytes", pa.int64(), "bytes", "Peak resident memory once that launch had been timed"),
        field("device_ms", pa.float64(), "ms", _ON_DEVICE),
        field("device_graph_ms", pa.float64(), "ms", _AS_GRAPH),
    ]
)

METRICS = pa.schema(
    [
        field("cell_id", _DICT, "", "Cell that was measured"),
        field("metric", _DICT, "", "Which figure: the name of its column in cells, where it has one"),
        field("value", pa.float64(), "see unit", "The figure"),
        field("low", pa.float64(), "see unit", "Lower end of its 95 % interval; null where it has none"),
        field("high", pa.float64(), "see unit", "Upper end of that interval"),
        field("unit", _DICT, "", "Unit of the three columns before"),
        field("direction", _DICT, "", "Which way is better: higher or lower"),
    ]
)

DETECTIONS = pa.schema(
    [
        field("cell_id", _DICT, "", "Cell that produced the detection"),
        field("image_id", pa.int32(), "", "Index of the image in the evaluated list; its id in official annotations"),
        field("category_id", pa.int16(), "", "Class index"),
        field("score", pa.float32(), "0..1", "Confidence, rounded to 2^-16 before evaluation"),
        field("x", pa.float32(), "px", "Left edge in the original image, rounded to 1/32 px before evaluation"),
        field("y", pa.float32(), "px", "Top edge, likewise"),
        field("w", pa.float32(), "px", "Width, likewise"),
        field("h", pa.float32(), "px", "Height, likewise"),
        field("matched", pa.uint16(), "bits", "Bit i set: true positive at IoU 0.50 + 0.05 i"),
        field("ignored", pa.uint16(), "bits", "Bit i set: counts neither way there, on a crowd region; null: never"),
    ]
)

GROUND_TRUTH = pa.schema(
    [
        field("image_id", pa.int32(), "", "Index of the image in the evaluated list; its id in official annotations"),
        field("file_name", _DICT, "", "File name of the image, without its folder"),
        field("category_id", pa.int16(), "", "Class index; -1 on the one row of an image without objects"),
        field("objects", pa.int32(), "objects", "Objects of that class in the image, crowd regions not counted"),
    ]
)

ENVIRONMENT = pa.schema(
    [
        field(
            "scope",
            pa.string(),
            "",
            "run, machine, core, targets, time (seconds by step), env:<family>, emulator:<name>, fleet (which machines "
            "did what of a cell), or machine:<id>, of one that timed cells and is not the run's",
        ),
        field("key", pa.string(), "", "Name of the fact"),
        field("value", pa.string(), "", "Its value as text; lists as JSON"),
    ]
)

TABLES: dict[str, pa.Schema] = {
    "cells": CELLS,
    "metrics": METRICS,
    "samples": SAMPLES,
    "launches": LAUNCHES,
    "detections": DETECTIONS,
    "ground_truth": GROUND_TRUTH,
    "environment": ENVIRONMENT,
    "probes": PROBES,
    "packages": PACKAGES,
    "claims": CLAIMS,
}


def write_table(directory: Path, name: str, rows: Iterable[Mapping[str, Any]] | pa.Table) -> Path:
    """Replace table `name` of a run atomically, and its parts, if it has grown by any.

    `rows` are mappings keyed by column (absent columns become null) or a ready Arrow table.
    Raises StoreError when a row does not fit the schema or the disk refuses; the previous version stays whole.
    """
    path = parts.whole(directory, name)
    parquet.write(path, rows, _stamped(name), **encoding(TABLES[name]))
    parts.remove(directory, name)
    return path


def write_pieces(directory: Path, name: str, pieces: Iterable[pa.Table], *, group: int = parquet.GROUP) -> Path:
    """The same of a table that comes in pieces, of which one is in memory at a time; `group` is the rows of a group."""
    path = parts.whole(directory, name)
    parquet.write_pieces(path, pieces, _stamped(name), group=group, **encoding(TABLES[name]))
    parts.remove(directory, name)
    return path


def add_part(directory: Path, name: str, rows: Iterable[Mapping[str, Any]] | pa.Table) -> Path:
    """Add rows to a table that is to be written as a whole in the end; readers see them from now on.

    Raises StoreError as `write_table` does; what was added before stays.
    """
    path = parts.upcoming(directory, name)
    parquet.write(path, rows, _stamped(name), group=PIECE, **encoding(TABLES[name]))
    return path


def restart(directory: Path, name: str, pieces: Iterable[pa.Table]) -> None:
    """Make a table that is to grow again of these pieces alone.  Raises StoreError as `write_table` does."""
    path = write_pieces(directory, name, pieces, group=PIECE)
    part = parts.upcoming(directory, name)
    try:
        part.parent.mkdir(exist_ok=True)
        path.replace(part)
    except OSError as error:
        raise StoreError(f"cannot move {path} to {part}: {error}") from error


def reduce_part(directory: Path, name: str, path: Path, pieces: Iterable[pa.Table]) -> None:
    """Replace a file of a table by these pieces of it, as a part to which others may come.  Raises StoreError."""
    if path == parts.whole(directory, name):
        restart(directory, name, pieces)
    else:
        parquet.write_pieces(path, pieces, _stamped(name), group=PIECE, **encoding(TABLES[name]))


def join_parts(directory: Path, name: str, key: str) -> Path:
    """Write a table as a whole from the parts that it has grown by, in order of its column `key`, as each part is.

    Of each part a group of rows is in memory at a time, so what this takes grows with the number of parts and not with
    their rows.  Raises StoreError for a part that cannot be read, or where the disk refuses; the parts then stay.
    """
    return write_pieces(directory, name, merged([parquet.groups(part) for part in parts.files(directory, name)], key))


def read_table(
    directory: Path, name: str, only: Only | None = None, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Table `name` of a run as a DataFrame with the columns of its schema, in order, or some of them.

    `only` leaves out rows that have other values than those it gives by column; what is left out is never in memory.
    A run of an older version is read through `bench.store.migration`; a column that there was none of when it was
    recorded is null.  Of a run that was killed, or goes on, the parts that the table has grown by are read.
    Raises StoreError when the file is missing, is not Parquet, is of a newer version than this code, damaged, or holds
    what cannot be meant (`bench/store/sound.py`).
    """
    path = parts.whole(directory, name)
    wanted = _wanted(name, columns)
    if name not in migration.CHANGED and not only and path.is_file() and parquet.length(path) > _LARGE:
        with _damage_told(path, name):
            return _large(path, name, wanted)
    frame: pd.DataFrame = read_arrow(directory, name, only, columns).to_pandas(use_threads=False)
    return frame


def read_arrow(directory: Path, name: str, only: Only | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as an Arrow table.  Raises StoreError as `read_table` does."""
    path = parts.whole(directory, name)
    wanted = _wanted(name, columns)
    early = name not in migration.CHANGED  # a change may need what is not asked for

    def stored(other: str) -> tuple[int, pa.Table] | None:
        found = parts.read(directory, other, only, columns) if early and other == name else parts.read(directory, other)
        return None if found is None else (migration.version_of(parts.whole(directory, other), found), found)

    with _damage_told(path, name):
        table = migration.present(name, stored)
        if table is None:
            raise StoreError(f"cannot read {path}: there is no such file")
        if only and not early:
            table = parquet.matching(table, only)
        table = fitted(table, wanted)
    sound.require(path, name, table)
    return table


@contextmanager
def _damage_told(path: Path, name: str) -> Iterator[None]:
    """Raise StoreError for what a file that is no such table, or a damaged one, leads to."""
    try:
        yield
    except (KeyError, OSError, TypeError, ValueError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {path}: it holds no table {name}, or a damaged one: {error!r}") from error


def fitted(table: pa.Table, columns: Iterable[pa.Field]) -> pa.Table:
    """A table with these columns in their types, in order; null throughout what it has none of."""
    known = frozenset(table.column_names)  # made anew at each look, which many columns would pay for squared
    return pa.table({column.name: _column(table, column, known) for column in columns})


def _wanted(name: str, columns: Sequence[str] | None) -> list[pa.Field]:
    return [column for column in TABLES[name] if columns is None or column.name in columns]


def _large(path: Path, table_name: str, wanted: Sequence[pa.Field]) -> pd.DataFrame:
    """A large table: only of the column that is being converted are there two copies at a time."""
    found = {}
    for name, table in parquet.by_column(path, [column.name for column in wanted]):
        migration.version_of(path, table)
        (column,) = (column for column in wanted if column.name == name)
        values = _column(table, column, frozenset(table.column_names))
        sound.require(path, table_name, pa.table({name: values}))
        found[name] = values.to_pandas(use_threads=False)
    return pd.DataFrame(found, columns=[column.name for column in wanted], copy=False)


def _column(table: pa.Table, column: pa.Field, known: AbstractSet[str]) -> pa.ChunkedArray:
    """A column in its type; null throughout where the table, which has the `known` ones, has none of the name."""
    if column.name not in known:
        return pa.chunked_array([pa.nulls(len(table), column.type)])
    values = table[column.name]
    # Arrow has no cast between the maps that it writes and those that it reads.
    return values if pa.types.is_nested(column.type) else values.cast(column.type)


def _stamped(name: str) -> pa.Schema:
    return TABLES[name].with_metadata({"schema_version": str(SCHEMA_VERSION), "table": name})


def encoding(schema: pa.Schema) -> dict[str, Any]:
    """How the columns of a table are written, for `bench.store.parquet.write`."""
    # A dictionary of floats would hide from the compressor that cells repeat each other's.
    low = [column.name for column in schema if not pa.types.is_floating(column.type)]
    return {"compression_level": 9, "use_dictionary": low}

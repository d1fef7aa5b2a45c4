"""One run read from its Parquet tables into the shapes the report works on."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bench.grid import machine, matrix
from bench.reasons import Status
from bench.store import tables
from bench.store.parquet import Only
from bench.store.parts import files
from bench.words.names import short
from bench.words.numbers import clean, precision_name

Point = tuple[str, int, int, str, int]
"""Model, image size in px, batch, target and threads: where cells may be compared with each other."""

REFERENCE = ("pytorch", "fp32")


@dataclass(frozen=True)
class StoredCell:
    """A row of the `cells` table; units and meanings are those of `bench.store.tables.CELLS`, null is None or ''.

    `option_name` is what its option is called: as the run recorded it, else as the matrix does now.
    """

    cell_id: str
    model: str
    model_sha256: str
    option: str
    precision: str
    target: str
    imgsz: int
    batch: int
    threads: int
    reference_id: str
    status: str
    reason_code: str
    reason: str
    map50_95: float | None
    map50: float | None
    map_small: float | None
    map_medium: float | None
    map_large: float | None
    map_delta: float | None
    map_delta_low: float | None
    map_delta_high: float | None
    images: float | None
    evaluator: str
    latency_p50_ms: float | None
    latency_p90_ms: float | None
    latency_p99_ms: float | None
    latency_ratio: float | None
    latency_ratio_low: float | None
    latency_ratio_high: float | None
    latency_samples: float | None
    latency_launches: float | None
    latency_rounds: float | None
    latency_rounds_contaminated: float | None
    latency_stop: str
    timed_on: str
    size_bytes: float | None
    env_bytes: float | None
    import_ms: float | None
    load_ms: float | None
    first_inference_ms: float | None
    peak_rss_bytes: float | None
    peak_rss_bytes_low: float | None
    peak_rss_bytes_high: float | None
    gpu_bytes: float | None
    energy_image_j: float | None
    device_ms: float | None
    device_graph_ms: float | None
    parity_images: float | None
    parity_box_max: float | None
    parity_box_p999: float | None
    parity_score_max: float | None
    compute: str
    calibration: str
    reproduce: str
    seconds: float | None
    map_per_class: Mapping[str, float]
    attested: Mapping[str, str]
    expected: Mapping[str, str]
    option_name: str

    @property
    def measured(self) -> bool:
        """True when the cell has numbers."""
        return self.status == Status.MEASURED

    @property
    def is_reference(self) -> bool:
        """True for PyTorch FP32, which the other cells of its scope are compared with."""
        return (self.option, self.precision) == REFERENCE

    @property
    def is_own_reference(self) -> bool:
        """True when the cell was compared with itself; PyTorch FP32 on one target may be compared with another's."""
        return self.is_reference and self.latency_ratio in (None, 1.0) and not self.map_delta

    @property
    def correctness_only(self) -> bool:
        """True when results were checked on a target whose latency says nothing, so that none was taken."""
        return self.measured and self.latency_p50_ms is None and bool(self.latency_stop)

    @property
    def point(self) -> Point:
        """What must be equal before two cells may be ranked: model, image size, batch, target, threads."""
        return (self.model, self.imgsz, self.batch, self.target, self.threads)

    @property
    def name(self) -> str:
        """Option and precision as a reader knows them, without the scope."""
        return f"{self.option_name} {precision_name(self.precision)}"

    @property
    def declared(self) -> frozenset[str]:
        """Keys of the attestation that only repeat what was asked for, or what the file says."""
        try:
            listed = json.loads(self.attested.get("declared", "[]"))
        except json.JSONDecodeError:
            return frozenset()
        return frozenset(map(str, listed)) if isinstance(listed, list) else frozenset()

    @property
    def computed_in(self) -> str:
        """The arithmetic attested, and whether the runtime only declares it; empty where nothing was attested."""
        return f"{self.compute} (declared)" if self.compute and "compute" in self.declared else self.compute


@dataclass(frozen=True)
class Fact:
    """One row of the `environment` table."""

    scope: str
    key: str
    value: str


@dataclass(frozen=True)
class Run:
    """A run, without its predictions, which are read image by image.

    `labels` names each cell as briefly as this run allows without two cells sharing a name.
    """

    run_id: str
    cells: tuple[StoredCell, ...]
    labels: Mapping[str, str]
    facts: tuple[Fact, ...]
    samples: pd.DataFrame
    ground_truth: pd.DataFrame
    directory: Path

    @property
    def measured(self) -> tuple[StoredCell, ...]:
        """Cells that have numbers, in the order of the run."""
        return tuple(cell for cell in self.cells if cell.measured)

    def with_status(self, status: Status) -> tuple[StoredCell, ...]:
        """Cells of that status, in the order of the run."""
        return tuple(cell for cell in self.cells if cell.status == status)

    def points(self) -> dict[Point, tuple[StoredCell, ...]]:
        """Measured cells grouped by what makes them comparable, in the order of the run."""
        groups: dict[Point, list[StoredCell]] = {}
        for cell in self.measured:
            groups.setdefault(cell.point, []).append(cell)
        return {point: tuple(cells) for point, cells in groups.items()}

    def detections(self, image_id: int) -> pd.DataFrame:
        """What every cell detected in an image, rows of that table.  Raises StoreError for one that cannot be read."""
        return optional(self.directory, "detections", {"image_id": [image_id]})

    def reference_for(self, cell: StoredCell) -> StoredCell | None:
        """The PyTorch FP32 cell that `cell` was compared with, when it was measured."""
        return next((other for other in self.measured if other.cell_id == cell.reference_id), None)

    def fewer_images(self, cell: StoredCell) -> int | None:
        """Images that `cell` was evaluated on where its reference was on more, else None."""
        reference = self.reference_for(cell)
        if reference is None or cell.images is None or cell.images >= (reference.images or 0):
            return None
        return int(cell.images)

    def outside_guide(self, cell: StoredCell) -> bool:
        """True when the guide does not name the cell's option."""
        return cell.option in self._outside_guide

    @cached_property
    def _outside_guide(self) -> frozenset[str]:
        return frozenset(_items(self.fact("outside_guide")))

    @property
    def data_notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know of the data set, a sentence each."""
        return tuple(clean(note) for note in _items(self.fact("data_notes")))

    def named(self, what: str) -> tuple[str, ...]:
        """Models or data, each by name and the beginning of its hash, `best (1a2b3c4)`; none if the run is silent."""
        models = dict.fromkeys((cell.model, cell.model_sha256) for cell in self.cells if cell.model_sha256)
        if what == "model" and models:
            return tuple(f"{name} ({short(digest)})" for name, digest in models)
        name, digest = self.fact(what), short(self.fact(f"{what}_sha256"))
        return (f"{name} ({digest})" if digest else name,) if name else ()

    @property
    def subjects(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """`model` and `data`, each with its names; what the run does not say is left out."""
        return tuple((what, names) for what in ("model", "data") if (names := self.named(what)))

    def machine_scope(self, cell: StoredCell) -> str:
        """The scope of the facts of the machine that timed a cell: the run's own, or one of its fleet."""
        scope = f"{tables.TIMED_ON}{cell.timed_on}"
        return scope if any(fact.scope == scope for fact in self.facts) else "machine"

    def machine_name(self, cell: StoredCell) -> str:
        """What the machine is called that timed a cell; the run's own where none did."""
        scope = self.machine_scope(cell)
        facts = self._facts_of(scope)
        return machine.run_name(facts, self._facts_of("targets")) if scope == "machine" else machine.short_name(facts)

    @property
    def timed_elsewhere(self) -> bool:
        """Whether another machine than the run's own timed any of its cells."""
        return any(self.machine_scope(cell) != "machine" for cell in self.measured)

    def fact(self, *keys: str, scope: str = "run") -> str:
        """Value of the first of `keys` that the run recorded under `scope`; empty when none is there."""
        known = self._facts_of(scope)
        return next((known[key] for key in keys if known.get(key)), "")

    def _facts_of(self, scope: str) -> dict[str, str]:
        return {fact.key: fact.value for fact in reversed(self.facts) if fact.scope == scope}


def load(run_dir: Path) -> Run:
    """Read the run in `run_dir`.

    `cells` and `environment` must be there; a run that measured nothing may lack the other tables.
    Raises bench.reasons.StoreError when a table is missing, damaged or of another schema version.
    """
    facts = tuple(
        Fact(_text(record["scope"]), _text(record["key"]), _text(record["value"]))
        for record in tables.read_table(run_dir, "environment").to_dict("records")
    )
    names = _option_names(facts)
    rows = tables.read_table(run_dir, "cells")
    cells = tuple(_cell(record, names) for record in rows.to_dict("records"))
    run_ids = {_text(value) for value in rows["run_id"]} - {""}
    return Run(
        run_id=next(iter(run_ids)) if len(run_ids) == 1 else clean(run_dir.name),
        cells=cells,
        # Measured cells are shown among themselves, so what varies only among the others is left out of their names.
        labels=label(cells) | label(cell for cell in cells if cell.measured),
        facts=facts,
        samples=optional(run_dir, "samples"),
        ground_truth=optional(run_dir, "ground_truth"),
        directory=run_dir,
    )


def label(cells: Iterable[StoredCell]) -> dict[str, str]:
    """Shortest name per cell id: option and precision, and every part of the point that varies within the run.

    Two cells that would still share a name (a second adapter for one option) are told apart by their id.
    """
    cells = tuple(cells)
    points = [cell.point for cell in cells]
    varies = [len({point[i] for point in points}) > 1 for i in range(5)]
    names: dict[str, str] = {}
    for cell in cells:
        model, imgsz, batch, target, threads = cell.point
        parts = (model, f"{imgsz} px", f"batch {batch}", target, f"{threads} thr")
        names[cell.cell_id] = " · ".join([cell.name, *(part for part, show in zip(parts, varies, strict=True) if show)])
    shared = Counter(names.values())
    return {cell_id: name if shared[name] == 1 else f"{name} ({cell_id})" for cell_id, name in names.items()}


def task_of(run_dir: Path) -> str:
    """The task that a run was of; detection where it says none.  Raises StoreError where it cannot be read."""
    facts = tables.read_table(run_dir, "environment")
    told = facts.value[(facts.scope == "run") & (facts.key == "task")]
    return str(next(iter(told), "detect"))


def optional(run_dir: Path, name: str, only: Only | None = None) -> pd.DataFrame:
    """A table that a run may lack: it is then empty.  `only` is that of `read_table`.

    Raises StoreError for one that cannot be read.
    """
    if files(run_dir, name):
        return tables.read_table(run_dir, name, only)
    empty: pd.DataFrame = tables.TABLES[name].empty_table().to_pandas()
    return empty


def _option_names(facts: Iterable[Fact]) -> Mapping[str, str]:
    """What options are called: as the run recorded it; a run of before it did takes the matrix's names."""
    recorded = next((fact.value for fact in facts if (fact.scope, fact.key) == ("run", "option_names")), "")
    if recorded:
        return _json_object(recorded)
    return {option: clean(name) for option, name in matrix.option_names().items()}


def _cell(record: Mapping[Any, Any], names: Mapping[str, str]) -> StoredCell:
    option = _text(record["option"])
    values: dict[str, Any] = {"option_name": names.get(option, option)}
    for field in fields(StoredCell):
        if field.name in values:
            continue
        raw = record[field.name]
        match field.type:
            case "str":
                values[field.name] = _text(raw)
            case "int":
                values[field.name] = int(raw)  # every row has one, or it would not have been read
            case "float | None":
                values[field.name] = _number(raw)
            case "Mapping[str, float]":
                values[field.name] = _per_class(raw)
            case _:
                values[field.name] = _json_object(raw)
    return StoredCell(**values)


def _text(value: object) -> str:
    return clean(value) if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if value is None or value is pd.NA:
        return None
    result = float(value)  # type: ignore[arg-type]  # a numeric column of the schema
    return result if math.isfinite(result) else None


def _per_class(value: object) -> dict[str, float]:
    if not isinstance(value, list):
        return {}
    return {clean(str(name)): score for name, raw in value if (score := _number(raw)) is not None}


def _items(recorded: str) -> list[str]:
    """The items of a JSON list as text.  What is no list is kept whole as its only item, so that it is seen."""
    if not recorded:
        return []
    try:
        parsed = json.loads(recorded)
    except (ValueError, RecursionError):
        return [recorded]
    return [str(item) for item in parsed] if isinstance(parsed, list) else [recorded]


def _json_object(value: object) -> dict[str, str]:
    """A JSON object as text per key.  What is not an object is kept whole under one key, so that it is seen."""
    if not isinstance(value, str) or not value.strip():
        return {}
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return {"unreadable": clean(value)}
    if not isinstance(parsed, dict):
        return {"value": clean(value)}
    return {
        clean(key): clean(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False))
        for key, item in parsed.items()
    }

"""Runs of every version of the schema: read through the steps, files untouched, and what is no version refused."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import older
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_fixture import write_run
from running import bench as command

import bench
from bench import store
from bench.decide.claims.tables import load
from bench.grid import machine, matrix
from bench.places import RECORDED, ROOT
from bench.reasons import UsageError
from bench.stats.percentile import percentile_bound
from bench.store import baselines, migration, reading
from bench.store.tables import read_table

CELL = {"run_id": "r", "cell_id": "c", "reference_id": "c", "imgsz": 320, "batch": 1, "threads": 1}
FIRST, SECOND, THIRD = (ROOT / "tests" / "runs" / f"version-{version}" for version in (1, 2, 3))
"""The run coco128-640-cpu as the bench recorded it at e350e6f, and again at 409bc78; then the sweep quick at 116a374.

Without their predictions.
"""


def version_of(folder: Path) -> str:
    return str(pq.read_schema(folder / "cells.parquet").metadata[b"schema_version"], "ascii")


def test_there_is_a_run_of_every_version(tmp_path: Path) -> None:
    """So that each step is shown on what its version really wrote."""
    now = write_run(tmp_path / "now")
    every = [str(one) for one in range(1, migration.VERSION + 1)]
    assert [version_of(folder) for folder in (FIRST, SECOND, THIRD, now)] == every


@pytest.mark.parametrize(
    "folder", [FIRST, SECOND, THIRD, *sorted(path.parent for path in RECORDED.glob("*/cells.parquet"))]
)
def test_a_run_of_any_version_has_the_columns_of_now_and_its_files_stay(folder: Path) -> None:
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.parquet")}
    for path in before:
        if path.stem in store.TABLES:
            table = read_table(folder, path.stem)
            assert table.columns.tolist() == store.TABLES[path.stem].names
            more = path.stem == "environment" and len(table) > pq.read_metadata(path).num_rows  # the task
            assert len(table) == pq.read_metadata(path).num_rows + more
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in before} == before


def test_the_first_version_had_one_launch_which_bounds_nothing() -> None:
    stored, cells = pd.read_parquet(FIRST / "cells.parquet"), read_table(FIRST, "cells")
    assert set(read_table(FIRST, "samples").launch) == {0}
    timed = stored.latency_rounds.notna()
    assert timed.any()
    assert cells.latency_launches[timed].eq(1).all()
    assert cells.latency_launches[~timed].isna().all()
    pd.testing.assert_series_equal(cells.latency_ratio, stored.latency_ratio)
    own = stored.latency_ratio == 1.0
    assert own.sum() == 1, "PyTorch FP32 itself"
    assert stored.latency_ratio_low[timed].notna().all()
    assert cells.latency_ratio_low[~own].isna().all()
    assert cells.latency_ratio_high[own].eq(1.0).all()
    bounds = cells[["latency_p90_ms", "latency_p99_ms"]]
    assert bounds.isna().all(axis=None), "of fewer than three launches there are none"


def test_the_second_versions_percentiles_become_bounds_of_the_same_samples() -> None:
    """The samples that count are those that the run counted when it was recorded."""
    stored, cells = pd.read_parquet(SECOND / "cells.parquet"), read_table(SECOND, "cells")
    samples = read_table(SECOND, "samples")
    for cell in stored.index:
        was, now = (table.latency_p90_ms[cell] for table in (stored, cells))
        if pd.isna(was):
            assert pd.isna(now)
            continue
        own, reference = (
            samples[(samples.cell_id == name) & ~samples.contaminated]
            for name in (stored.cell_id[cell], stored.reference_id[cell])
        )
        counted = own[own["round"].isin(set(reference["round"]))].latency_ms
        assert len(counted) == stored.latency_samples[cell]
        assert np.quantile(counted, 0.9) == pytest.approx(was), "as it was recorded"
        assert now == percentile_bound(counted, 90) > was
    unchanged = ["map50_95", "latency_p50_ms", "latency_ratio", "latency_ratio_low", "size_bytes", "attested"]
    pd.testing.assert_frame_equal(cells[unchanged], stored[unchanged])


def test_bounds_of_the_second_version_stay(tmp_path: Path) -> None:
    """Its later runs held them already, which their column of the autocorrelation tells."""
    rows = [CELL | {"latency_p90_ms": 7.0}]
    older.write(tmp_path / "later", 2, "cells", rows)
    older.write(tmp_path / "earlier", 2, "cells", rows, lacking=["latency_autocorrelation"])
    assert read_table(tmp_path / "later", "cells").latency_p90_ms.tolist() == [7.0]
    assert read_table(tmp_path / "earlier", "cells").latency_p90_ms.isna().all(), "there are no samples"


def test_an_older_hash_of_the_data_is_not_taken_for_one_of_now() -> None:
    facts = read_table(SECOND, "environment")
    own = facts[facts.scope == "run"].set_index("key").value
    stored = pd.read_parquet(SECOND / "environment.parquet")
    assert own["task"] == "detect"
    assert "data_sha256" not in own.index
    assert own["layout_sha256"] == stored[stored.key == "data_sha256"].value.item()
    with pytest.raises(UsageError, match="make it again with this version of the bench"):
        baselines.facts_of(SECOND)


def test_a_baseline_of_an_older_bench_says_what_to_do() -> None:
    facts = {"name": "main", "model_sha256": "m", "images": "16", "data_sha256": "d"}
    with pytest.raises(UsageError, match=r"baseline main was promoted by an older bench.*promote a run"):
        baselines.require_comparable(facts, facts)
    baselines.require_comparable(facts | {"schema": store.SCHEMA_VERSION}, facts)


@pytest.mark.parametrize("folder", [FIRST, SECOND, THIRD])
def test_every_cell_of_an_older_run_is_of_its_one_model(folder: Path) -> None:
    facts = read_table(folder, "environment")
    (told,) = facts.value[(facts.scope == "run") & (facts.key == "model_sha256")]
    cells = read_table(folder, "cells")
    assert set(cells.model_sha256) == {told}
    assert ("model", (f"{cells.model[0]} ({told[:7]})",)) in reading.load(folder).subjects


FACTS = {"cpu": "AMD EPYC", "system": "Linux-6.1-x86_64", "cpu_cores_logical": "64", "memory_bytes": "540123456789"}


def test_probes_made_when_names_were_shorter_are_of_the_runs_own_machine(tmp_path: Path) -> None:
    facts = [{"scope": "machine", "key": key, "value": value} for key, value in FACTS.items()]
    probes = [{"probe": "devices", "subject": name, "machine": name} for name in ("AMD EPYC, Linux", "Another, Linux")]
    older.write(tmp_path, 2, "cells", [CELL])
    older.write(tmp_path, 2, "environment", facts)
    older.write(tmp_path, 2, "probes", probes)
    found = load([tmp_path], matrix.load()).probes.set_index("subject").machine
    assert found["AMD EPYC, Linux"] == machine.short_name(FACTS) == "AMD EPYC, 64 CPUs, 540 GB, Linux"
    assert found["Another, Linux"] == "Another, Linux"


def test_a_column_that_was_not_there_yet_is_null(tmp_path: Path) -> None:
    turn = dict.fromkeys(("window", "launch", "round", "order", "index"), 0)
    row = {"cell_id": "c", "latency_ms": 1.0, "contaminated": False, **turn}
    older.write(tmp_path, 2, "samples", [row], lacking=["cpu_due"])
    found = read_table(tmp_path, "samples")
    assert found.cpu_due.isna().all()
    assert found.latency_ms.tolist() == [1.0]


def test_older_runs_are_shown_compared_and_reported(tmp_path: Path) -> None:
    shown = command("show", FIRST)
    assert shown.code == 0, shown.said
    assert "OpenVINO" in shown.said
    assert "Of model yolo11n-coco (" in shown.said
    pair = bench.compare_cells("coco128-640-cpu", "onnx-fp32", "openvino-fp32")
    assert pair.ratio["time"] > 0
    page = tmp_path / "report.html"
    written = command("report", FIRST, "--out", page)
    assert written.code == 0, written.said
    assert page.stat().st_size > 100_000


@pytest.mark.parametrize("version", [migration.VERSION + 1, 40])
def test_a_run_of_a_newer_version_says_how_to_read_it(tmp_path: Path, version: int) -> None:
    run = write_run(tmp_path / "run")
    rows = read_table(run, "cells")[["run_id", "cell_id"]].to_dict("records")
    older.write(run, version, "cells", rows)  # type: ignore[arg-type]  # pandas allows any hashable name of a column
    for words in (("show", run), ("report", run), ("recommend", run), ("claims", run)):
        done = command(*words)
        assert done.code == 2
        (line,) = done.said.splitlines()
        assert f"cells.parquet has schema version {version}, and this bench reads versions up to" in line
        assert "Update the bench (`git pull` in a checkout" in line


@pytest.mark.parametrize("version", ["", "0", "-1", "two", "3.0", "\udcff"])
def test_what_has_no_version_is_no_table_of_the_bench(tmp_path: Path, version: str) -> None:
    metadata = {b"schema_version": version.encode(errors="surrogateescape")}
    pq.write_table(pa.table({"cell_id": ["c"]}).replace_schema_metadata(metadata), tmp_path / "cells.parquet")
    with pytest.raises(store.StoreError, match="no table that the bench has written"):
        read_table(tmp_path, "cells")


NEEDLESS = {(1, "samples"), (2, "samples"), (1, "probes"), (2, "probes"), *((3, name) for name in migration.CHANGED)}
"""Tables that a step changes without a look at their columns: where there is no environment beside the probes."""


@pytest.mark.parametrize("version", range(1, migration.VERSION + 1))
@pytest.mark.parametrize("name", list(store.TABLES))
def test_a_table_without_its_columns_is_an_error_or_null(tmp_path: Path, version: int, name: str) -> None:
    """As a damaged or a foreign file may be: one clear error, never a traceback."""
    schema = pa.schema([pa.field("odd", pa.string())], metadata={"schema_version": str(version), "table": name})
    pq.write_table(pa.table({"odd": ["x"]}, schema=schema), tmp_path / f"{name}.parquet")
    lacks = name in migration.CHANGED and version < migration.VERSION and (version, name) not in NEEDLESS
    if lacks:
        with pytest.raises(store.StoreError, match=f"holds no table {name}, or a damaged one"):
            read_table(tmp_path, name)
        return
    with suppress(store.StoreError):  # there are columns that no table can do without
        known = read_table(tmp_path, name).drop(
            columns="launch", errors="ignore"
        )  # in the first version it is 0, always
        assert known.isna().all(axis=None)


@pytest.mark.parametrize(("column", "value"), [("imgsz", "wide"), ("latency_p50_ms", "soon"), ("started", "noon")])
def test_a_column_of_another_type_is_an_error(tmp_path: Path, column: str, value: str) -> None:
    metadata = {"schema_version": str(store.SCHEMA_VERSION), "table": "cells"}
    schema = pa.schema([pa.field("cell_id", pa.string()), pa.field(column, pa.string())], metadata=metadata)
    pq.write_table(pa.table({"cell_id": ["c"], column: [value]}, schema=schema), tmp_path / "cells.parquet")
    with pytest.raises(store.StoreError, match=r"holds no table cells, or a damaged one"):
        read_table(tmp_path, "cells")


def test_every_change_is_told_on_the_page() -> None:
    page = (ROOT / "docs" / "results-format.md").read_text(encoding="utf-8")
    for before, step in enumerate(migration.STEPS, start=1):
        assert len({change.table for change in step}) == len(step)
        for change in step:
            assert change.table in store.TABLES
            assert f"| {before} | {before + 1} | `{change.table}` | {change.what} |" in page


def test_facts_of_a_run_of_now_name_its_contents(tmp_path: Path) -> None:
    """What `check` compares is recorded under the names that it looks for."""
    identities = [{"scope": "identity", "key": "c", "value": json.dumps({"lock": "l"})}]
    names = ("model", "model_sha256", "images", "data", "data_sha256", "sweep", "task", "commit", "house")
    store.write_table(
        tmp_path, "environment", identities + [{"scope": "run", "key": name, "value": name} for name in names]
    )
    facts = baselines.facts_of(tmp_path)
    assert facts["data_sha256"] == "data_sha256"
    assert facts["identities"] == {"c": {"lock": "l"}}

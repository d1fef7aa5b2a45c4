"""Parquet tables: schema, atomic replacement, readers, and a disk that refuses."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench import store
from bench.places import ROOT
from bench.store.tables import CELLS

# fmt: off
SUMMARY_COLUMNS = [
    "model", "option", "precision", "target", "imgsz", "batch", "threads", "status", "reason", "map50_95", "map50",
    "latency_p50_ms", "latency_ratio", "latency_ratio_low", "latency_ratio_high", "size_bytes", "peak_rss_bytes",
    "load_ms", "first_inference_ms", "env_bytes", "parity_box_max", "parity_score_max",
]
# fmt: on


POINT = {"imgsz": 320, "batch": 1, "threads": 1}
"""What every row of `cells` has."""


def test_summary_columns_keep_their_names() -> None:
    assert set(SUMMARY_COLUMNS) <= set(CELLS.names)


def test_every_column_has_a_meaning_and_the_page_is_current() -> None:
    for table in store.TABLES.values():
        for column in table:
            assert column.metadata[b"meaning"], column.name
    page = ROOT / "docs" / "results-format.md"
    assert page.read_text(encoding="utf-8") == store.document(), "run `python -m bench schema > docs/results-format.md`"


def test_pandas_and_duckdb_read_a_table_in_one_line(tmp_path: Path) -> None:
    path = store.write_table(tmp_path, "cells", [{"cell_id": "c", "latency_ratio": 1.5} | POINT])
    assert pd.read_parquet(path).latency_ratio[0] == 1.5
    found = duckdb.sql(f"select imgsz from '{path}'")
    assert found is not None
    assert found.fetchall() == [(320,)]
    metadata = pq.read_schema(path)
    assert metadata.metadata[b"schema_version"] == str(store.SCHEMA_VERSION).encode()
    assert metadata.field("size_bytes").metadata[b"unit"] == b"bytes"
    assert list(store.read_table(tmp_path, "cells").columns) == CELLS.names


def test_a_row_that_does_not_fit_is_refused_and_the_old_table_stays(tmp_path: Path) -> None:
    store.write_table(tmp_path, "cells", [{"cell_id": "old"} | POINT])
    with pytest.raises(store.StoreError, match=r"cells\.parquet"):
        store.write_table(tmp_path, "cells", [{"cell_id": "new", "imgsz": "wide"}])
    assert store.read_table(tmp_path, "cells").cell_id.tolist() == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["cells.parquet"]


def test_a_full_disk_is_one_clear_error_and_the_old_table_stays(tmp_path: Path) -> None:
    store.write_table(tmp_path, "cells", [{"cell_id": "old"} | POINT])
    code = (
        "import resource, signal, sys, pathlib, random\n"
        "from bench import store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "rows = [{'cell_id': random.randbytes(32).hex()} for _ in range(10000)]\n"
        "try:\n"
        "    store.write_table(pathlib.Path(sys.argv[1]), 'cells', rows)\n"
        "except store.StoreError as error:\n"
        "    sys.exit(f'said: {error}')\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 4096
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "said: cannot write" in done.stderr
    assert "File too large" in done.stderr
    assert store.read_table(tmp_path, "cells").cell_id.tolist() == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["cells.parquet"]


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(store.StoreError, match="cannot read"):
        store.read_table(tmp_path, "cells")
    (tmp_path / "cells.parquet").write_bytes(b"not parquet")
    with pytest.raises(store.StoreError, match="cannot read"):
        store.read_table(tmp_path, "cells")
    pq.write_table(pa.table({"cell_id": ["x"]}), tmp_path / "cells.parquet")
    with pytest.raises(store.StoreError, match="schema version none"):
        store.read_table(tmp_path, "cells")

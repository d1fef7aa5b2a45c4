"""A real run of three models, two of one file name and one that cannot work: each has its own cells and reference."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from running import USERS_CACHE, bench
from sweeps import LATENCY_OF_SECONDS, matrices_with

from bench import demo, store

pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
SWEEP = """
description = "Two minutes: for the tests of the harness."
imgsz = [160]
images = 24
options = ["onnx"]
precisions = ["fp32"]
targets = ["cpu", "arm-cpu"]
"""
WEIGHTS = "yolo11n-demo/data/126"
"""The largest of the embedded checkpoint's weights, in half precision."""


def changed(path: Path, factor: float) -> Path:
    """The embedded checkpoint with the largest of its weights times `factor`."""
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(demo.CHECKPOINT) as source, zipfile.ZipFile(path, "w") as sink:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == WEIGHTS:
                content = (np.frombuffer(content, np.float16) * np.float16(factor)).tobytes()
            sink.writestr(entry.filename, content)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "a").mkdir()
    whole = Path(shutil.copy(demo.CHECKPOINT, folder / "a" / "best.pt"))
    return [whole, changed(folder / "b" / "best.pt", 0.7), changed(folder / "c" / "nan.pt", float("nan"))]


@pytest.fixture(scope="module")
def finished(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    matrices = matrices_with(SWEEP + LATENCY_OF_SECONDS, folder)
    done = bench("run", "--matrices", matrices, "--sweep", "tiny", "--results", folder, "--run-id", "r",
                 "--model", ",".join(map(str, models)), "--data", demo.prepare(USERS_CACHE / "demo"))  # fmt: skip
    assert done.code == 1, done.said
    return folder / "r"


def measured(directory: Path) -> pd.DataFrame:
    cells = store.read_table(directory, "cells")
    return cells[cells.status == "measured"]


def test_each_model_has_its_own_cells_artifacts_and_reference(finished: Path, models: list[Path]) -> None:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in models]
    cells = measured(finished)
    assert set(zip(cells.model, cells.model_sha256, strict=True)) == {(f"best-{one[:7]}", one) for one in digests[:2]}
    assert cells.groupby("model").option.apply(set).tolist() == [{"pytorch", "onnx"}] * 2
    assert (cells.reference_id.str.partition("/")[0] == cells.model).all()
    assert cells.artifact_key.nunique() == len(cells) == 4
    scores = cells[cells.option == "pytorch"].set_index("model_sha256").map50_95
    assert scores[digests[0]] != scores[digests[1]], "the changed weight changes what it finds"
    assert (cells.map_delta.abs() < 0.005).all(), "each is compared with its own"
    assert (cells.parity_box_max < 0.1).all()
    commands = set(cells.reproduce.str.extract(r"--model (\S+)")[0])
    assert commands == {"best.pt"}


def test_a_model_that_cannot_work_costs_its_own_cells(finished: Path) -> None:
    cells = store.read_table(finished, "cells")
    broken = cells[(cells.model == "nan") & cells.status.isin(["failed", "invalid"])]
    assert set(broken.option) == {"pytorch", "onnx"}
    assert set(broken.reason_code) == {"output_invalid"}, "its numbers are none"


def test_the_choice_is_among_both(finished: Path) -> None:
    told = json.loads(bench("recommend", finished, "--format", "json", "--max-map-loss", "0.05").said)
    assert len(told["scope"]["model"]) == 2
    assert len(told["choices"]) == 4
    assert {choice["cell_id"] for choice in told["choices"]} >= set(told["front"])
    assert "3 models at 160\N{NO-BREAK SPACE}px" in (finished / "report.html").read_text(encoding="utf-8")

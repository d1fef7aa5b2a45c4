"""More than one image per inference, in whole runs with real runtimes."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sweeps import matrices_with

from bench import store
from bench.grid.request import CACHE_VARIABLE, Request
from bench.places import ROOT

pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
NATIVE = "arm-cpu" if platform.machine().lower() in ("aarch64", "arm64") else "cpu"
# Ten images: the third batch of four is filled up with copies of its last image, which must not count.
SWEEP = f"""
description = "test"
imgsz = [160]
batch = [1, 4]
images = 10
calibration_images = 8
precisions = ["fp32"]
targets = ["{NATIVE}"]
parity.images = 1
latency = {{ samples = 2, warmup = 1, min_launches = 3, max_launches = 3, half_width = 0.9, budget_s = 30 }}
"""


@pytest.fixture
def matrices(tmp_path: Path) -> Path:
    return matrices_with(SWEEP, tmp_path, "batches")


def run(matrices: Path, results: Path, *arguments: str, root: Path = ROOT) -> tuple[int, str, Any]:
    """Exit code, what was said, and the cells by option and batch: a frame whose rows mypy cannot tell from columns."""
    command = [sys.executable, "-m", "bench", "run", "--matrices", str(matrices), "--sweep", "batches"]
    command += ["--results", str(results), "--run-id", "r", *arguments]
    env = os.environ | {CACHE_VARIABLE: str(Request({}).cache), "PYTHONPATH": str(root), "COLUMNS": "250"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False, timeout=1800)
    cells = store.read_table(results / "r", "cells").set_index(["option", "batch"]).sort_index()
    return done.returncode, done.stdout + done.stderr, cells


def test_every_option_finds_the_same_in_batches_or_says_why_not(matrices: Path, tmp_path: Path) -> None:
    code, said, cells = run(matrices, tmp_path / "results", "--options", "onnx,openvino,tflite,ncnn")
    assert code == 0, said
    samples = store.read_table(tmp_path / "results" / "r", "samples")
    fastest = samples.groupby("cell_id", observed=True).latency_ms.min()
    for option in ("pytorch", "onnx", "openvino", "tflite"):
        one, four = cells.loc[(option, 1)], cells.loc[(option, 4)]
        assert (one.status, four.status) == ("measured", "measured")
        assert four.images == one.images == 10
        assert four.map50_95 == pytest.approx(one.map50_95, abs=1e-3)
        assert four.map_delta == pytest.approx(0, abs=0.002)
        assert '"input_shape": [4, 3, 160, 160]' in four.attested
        assert four.reference_id.endswith("-b4-t1")
        # The fastest call for four images takes longer than the fastest for one; the ratio is between equal batches.
        assert fastest[four.cell_id] > fastest[one.cell_id]
        assert four.latency_ratio > 0
    assert cells.loc[("ncnn", 1)].status == "measured"
    four = cells.loc[("ncnn", 4)]
    assert (four.status, four.reason_code) == ("skipped", "batch_unsupported")
    assert "NCNN takes at most 1 image per inference" in four.reason
    assert "batch_unsupported" in said
    page = (tmp_path / "results" / "r" / "report.html").read_text(encoding="utf-8")
    assert "ms per image" in page
    assert four.reason in page


@pytest.mark.skipif(platform.system() != "Linux", reason="how the artifact ends its process is known for Linux")
def test_a_runtime_that_segfaults_costs_its_cell_alone(tmp_path: Path) -> None:
    """NCNN without the two places that refuse a batch: an artifact of four images ends the process that runs it."""
    ignore = shutil.ignore_patterns("__pycache__", ".git", ".nox", "results", ".venv", "venv", ".whl")
    project = shutil.copytree(ROOT, tmp_path / "project", ignore=ignore)
    for path, refusal, other in (
        ("matrices/options/ncnn.toml", "batch_max = 1\n", ""),
        ("bench/guest/runtimes/ncnn_runtime.py", "if len(x) != 1:", "if len(x) < 1:"),
    ):
        text = (project / path).read_text(encoding="utf-8")
        assert refusal in text
        (project / path).write_text(text.replace(refusal, other), encoding="utf-8")
    (project / "matrices" / "sweeps" / "batches.toml").write_text(SWEEP, encoding="utf-8")
    arguments = ("--options", "ncnn,onnx", "--batch", "4", "-k", "accuracy or attestation")
    code, said, cells = run(project / "matrices", tmp_path / "results", *arguments, root=project)
    assert code == 1, said
    doomed = cells.loc[("ncnn", 4)]
    assert (doomed.status, doomed.reason_code) == ("failed", "crashed")
    assert "SIGSEGV" in doomed.reason
    assert (cells.drop(index=("ncnn", 4)).status == "measured").all()

"""The update that moved a metric, for real: releases of ONNX Runtime in environments of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.places import ROOT

pytestmark = [
    pytest.mark.options,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11"),
]
CELL = ("--options", "onnx", "--precisions", "fp32", "--targets", "cpu", "--imgsz", "160")


def bisect(folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """In a process of its own, since a sweep inside it starts pytest."""
    told = folder / "bisect.json"
    line = [sys.executable, "-m", "bench", "bisect", *CELL, *words]
    line += ["--results", str(folder / "runs"), "--json", str(told)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False, timeout=1200)
    said = done.stdout + done.stderr
    assert told.is_file(), said
    return done.returncode, json.loads(told.read_text(encoding="utf-8")), said


def test_the_release_in_which_fp32_became_faster_is_found_and_not_measured_twice(tmp_path: Path) -> None:
    # matrices/selfcheck.toml has the reason: the optimised graph of 1.25.1 has 290 nodes where that of 1.24.4 has 409.
    words = ("--package", "onnxruntime", "--good", "1.24.1", "--bad", "1.25.1", "--versions", "1.24.4")
    code, found, said = bisect(tmp_path, *words)
    assert code == 0, said
    assert found["direction"] == "better"
    answer = found["answer"]
    assert (answer["same"], answer["moved"]) == ("onnxruntime==1.24.4", "onnxruntime==1.25.1")
    assert [step["outcome"] for step in found["steps"]] == ["moved", "same"]
    assert len(list((tmp_path / "bisect").glob("*/*/*/pairs.parquet"))) == 2
    code, again, said = bisect(tmp_path, *words)
    assert code == 0, said
    assert all(step["known"] for step in again["steps"])
    assert again["answer"] == answer


def test_of_two_updates_the_one_that_made_it_faster_is_named(tmp_path: Path) -> None:
    good, bad = "onnxruntime==1.24.4,numpy==2.3.5", "onnxruntime==1.25.1,numpy==2.4.6"
    code, found, said = bisect(tmp_path, "--good", good, "--bad", bad)
    assert code == 0, said
    (update,) = found["answer"]["set"]
    assert (update["name"], update["before"], update["after"]) == ("onnxruntime", "1.24.4", "1.25.1")
    assert found["answer"]["rest"] == "same"


def test_the_release_whose_packages_grew_is_found_by_a_sweep_of_each(tmp_path: Path) -> None:
    # matrices/tolerances.toml: from 1.26.0 to 1.32.0 ONNX Runtime itself grew by 46 %, from 51.6 to 75.6 MB (its files
    # without byte code); numpy and the others beside it, 59.4 MB, stayed.
    words = ("--package", "onnxruntime", "--good", "1.26.0", "--bad", "1.32.0", "--versions", "1.31.1")
    code, found, said = bisect(tmp_path, "--metric", "env_bytes", *words)
    assert code == 0, said
    assert found["direction"] == "worse"
    ends = found["steps"][0]["change"]
    assert ends["value"] == pytest.approx((75.6 + 59.4) / (51.6 + 59.4), abs=0.01)
    assert ends["low"] == ends["high"] == ends["value"], "exact"
    # 1.31.1 has 64.4 MB: more than half of the way, by logs, as the margin is.
    assert (found["answer"]["same"], found["answer"]["moved"]) == ("onnxruntime==1.26.0", "onnxruntime==1.31.1")
    assert found["pairs"] == 0

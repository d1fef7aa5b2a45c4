"""A quantisation that was calibrated on wrong images, really exported and run: a failure, shown as one."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from running import Done, bench

from bench import demo, store
from bench.decide.timings import Own
from bench.grid.request import Request
from bench.report import outcomes, tables
from bench.store import reading
from bench.words.locale import texts

pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")


@pytest.fixture(scope="module")
def black(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file with the demo set's validation images, whose training images are all black."""
    folder = tmp_path_factory.mktemp("black")
    (folder / "train").mkdir()
    for number in range(8):
        assert cv2.imwrite(str(folder / "train" / f"{number}.png"), np.zeros((160, 160, 3), np.uint8))
    text = demo.prepare(Request({}).cache / "demo").read_text(encoding="utf-8")
    text = "\n".join(f"train: {folder / 'train'}" if line.startswith("train:") else line for line in text.splitlines())
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    return folder / "data.yaml"


def run(results: Path, name: str, *arguments: str, options: str = "onnx,openvino") -> Done:
    command = ["run", "--results", results, "--run-id", name, "--sweep", "smoke", "--targets", "cpu,arm-cpu"]
    command += ["--options", options, "--precisions", "int8", "--imgsz", "160", "--images", "24"]
    return bench(*command, "-k", "accuracy", *arguments, columns=250)


def test_calibration_on_black_images_is_a_failure_and_not_a_figure(black: Path, tmp_path: Path) -> None:
    done = run(tmp_path, "black", "--data", str(black))
    assert done.code == 1, done.said
    rows = store.read_table(tmp_path / "black", "cells")
    rows = rows[rows.reason_code != "target_absent"].set_index("option")
    assert rows.loc["pytorch"].status == "measured"
    for option in ("onnx", "openvino"):
        row = rows.loc[option]
        assert (row.status, row.reason_code) == ("failed", "accuracy_collapsed")
        assert row.map50_95 < 0.5 * rows.loc["pytorch"].map50_95
        assert f"mAP50-95 is {row.map50_95:.3f}" in row.reason
        assert "train, 8 images" in row.calibration
    # Said on the terminal and in the report, and the figure stands in no table of results.
    assert "failed · accuracy_collapsed (2 cells)" in done.said
    read = reading.load(tmp_path / "black")
    group = next(group for group in outcomes.problems(read, outcomes.words("en")) if group.code == "accuracy_collapsed")
    assert group.count == 2
    assert {cell.option for cell, _ in tables.comparison(read, Own({}), texts("report", "en")).rows} == {"pytorch"}
    page = (tmp_path / "black" / "report.html").read_text(encoding="utf-8")
    assert "its accuracy fell below the floor" in page


def test_the_same_with_the_right_images_is_measured(tmp_path: Path) -> None:
    done = run(tmp_path, "right")
    assert done.code == 0, done.said
    rows = store.read_table(tmp_path / "right", "cells")
    rows = rows[rows.reason_code != "target_absent"].set_index("option")
    assert rows.status.eq("measured").all()
    assert rows.loc["onnx"].map_delta > -0.1


def test_images_that_calibrate_and_are_evaluated_are_told(tmp_path: Path) -> None:
    text = demo.prepare(Request({}).cache / "demo").read_text(encoding="utf-8")
    val = next(line.partition(":")[2] for line in text.splitlines() if line.startswith("val:"))
    text = "\n".join(f"train:{val}" if line.startswith("train:") else line for line in text.splitlines())
    (tmp_path / "data.yaml").write_text(text, encoding="utf-8")
    done = run(tmp_path, "shared", "--data", str(tmp_path / "data.yaml"), options="onnx")
    assert done.code == 0, done.said
    rows = store.read_table(tmp_path / "shared", "cells").set_index("option")
    assert " of them evaluated too" in rows.loc["onnx"].calibration.iloc[0]
    assert "calibrate INT8 are evaluated too" in done.said
    page = (tmp_path / "shared" / "report.html").read_text(encoding="utf-8")
    assert "images that calibrate INT8 are evaluated here too" in page

"""Marks of the report: outside the guide, correctness only, fewer images, images per call, and the share kept."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import expect, sync_playwright
from report_fixture import cell_id, write_run
from rich.console import Console
from test_report import CHROMIUM_FLAGS

from bench import store
from bench.decide.deploy.candidates import fields
from bench.decide.timings import Own
from bench.report import build, highlights, print_run, retention, tables
from bench.report.views import Table, Value
from bench.store import reading as run
from bench.store.tables import CELLS
from bench.words.locale import texts

EN = texts("report", "en")

WHY = "A drawing in software stands in for the device: results are checked here, no latency is taken."
LATENCY = [name for name in CELLS.names if name.startswith("latency_")]


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A run in which ONNX is not in the guide, and its INT8 ran on a stand-in with 8 of the 24 images."""
    directory = write_run(tmp_path / "run", problems=False)
    cells = store.read_table(directory, "cells")
    row = cells.cell_id == cell_id("onnx", "int8")
    cells.loc[row, [name for name in LATENCY if name != "latency_stop"]] = None
    cells.loc[row, ["latency_stop", "target"]] = [WHY, "browser-webgl"]
    cells.loc[row, "images"] = 8
    facts = store.read_table(directory, "environment").to_dict("records")
    facts.append({"scope": "run", "key": "outside_guide", "value": json.dumps(["onnx"])})
    write(directory, "cells", cells)
    store.write_table(directory, "environment", facts)
    return directory


def write(directory: Path, table: str, frame: pd.DataFrame) -> None:
    store.write_table(directory, table, frame.astype(object).where(frame.notna(), None).to_dict("records"))


def shown(directory: Path) -> str:
    console = Console(width=300, file=io.StringIO())
    with console.capture() as captured:
        print_run(directory, console)
    return captured.get()


def column(table: Table, title: str, unit: str | None = None) -> dict[str, Value]:
    """Values of a column by cell id."""
    index = next(i for i, c in enumerate(table.columns) if c.title == title and unit in (None, c.unit))
    return {cell.cell_id: values[index] for cell, values in table.rows}


def test_what_the_guide_does_not_name_is_marked(marked: Path) -> None:
    notes = column(tables.comparison(run.load(marked), Own({}), EN), "Option")
    assert notes[cell_id("onnx", "fp32")].note == "not in the guide"
    assert notes[cell_id("openvino", "fp32")].note == ""
    said = shown(marked)
    assert "ONNX*" in said
    assert "OpenVINO*" not in said
    assert "* not in the guide" in said


def test_a_run_without_that_fact_marks_nothing(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run")
    assert not any(
        value.note for value in column(tables.comparison(run.load(directory), Own({}), EN), "Option").values()
    )
    assert "not in the guide" not in shown(directory)


def test_correctness_only_is_said_and_ranked_nowhere(marked: Path, tmp_path: Path) -> None:
    read = run.load(marked)
    identity = cell_id("onnx", "int8")
    assert column(tables.comparison(read, Own({}), EN), "Speed ratio")[identity].text == "correctness only"
    assert column(tables.comparison(read, Own({}), EN), "mAP50-95")[identity].note == "8 images"
    assert column(tables.comparison(read, Own({}), EN), "mAP50-95")[cell_id("onnx", "fp32")].note == ""
    assert column(tables.latency_detail(read, EN), "Stopped by")[identity].text == WHY
    said = shown(marked)
    assert "correctness only" in said
    assert "(8 images)" in said
    # It has the smallest artifact of all, and does not count.
    cell = next(cell for cell in read.measured if cell.cell_id == identity)
    assert cell.size_bytes == min(other.size_bytes or 0 for other in read.measured)
    assert cell.name not in [one.answer for one in highlights.highlights(read.measured, fields(read)[0], Own({}), EN)]
    page = build(marked, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Correctness only, so in no ranking and in no figure of speed: ONNX INT8" in page
    assert "browser-webgl, 2 threads" not in page  # no section of its own


def test_filters_see_the_option_and_not_its_mark(marked: Path, tmp_path: Path) -> None:
    page_file = build(marked, tmp_path / "page.html")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        page = browser.new_page()
        page.goto(f"{page_file.as_uri()}#cells")
        for table, rows in (("comparison-table", 3), ("grid-table", 3)):
            page.locator(f'[data-controls="{table}"] select').first.select_option("ONNX")
            expect(page.locator(f"#{table} tbody tr")).to_have_count(rows)
        browser.close()


def test_batches_are_shown_per_call_and_per_image(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", problems=False)
    before = {
        column.unit for column in tables.comparison(run.load(directory), Own({}), EN).columns if column.title == "p50"
    }
    assert before == {"ms per call"}
    cells = store.read_table(directory, "cells")
    cells["batch"] = 4
    write(directory, "cells", cells)
    read = run.load(directory)
    for table in (tables.comparison(read, Own({}), EN), tables.latency_detail(read, EN)):
        for cell in read.measured:
            call = float(column(table, "p50", "ms per call")[cell.cell_id].order)
            image = float(column(table, "p50", "ms per image")[cell.cell_id].order)
            assert call == pytest.approx(cell.latency_p50_ms)
            assert image == pytest.approx(call / 4)
    assert "p50 ms per call" in shown(directory)
    assert "per image" in shown(directory)


@pytest.mark.parametrize(
    ("delta", "low", "high", "reached", "text"),
    [
        (-0.002, -0.004, 0.001, "≥ 99 %", "99.6 % [99.2, 100.2]"),
        (-0.010, -0.015, -0.004, "≥ 95 %", "98.0 % [97.0, 99.2]"),
        (-0.020, -0.030, -0.010, "open", "96.0 % [94.0, 98.0]"),
        (-0.060, -0.070, -0.050, "< 95 %", "88.0 % [86.0, 90.0]"),
        (-0.010, None, None, "", "98.0 %"),
    ],
)
def test_the_class_is_the_one_that_the_whole_interval_lies_in(
    tmp_path: Path, delta: float, low: float | None, high: float | None, reached: str, text: str
) -> None:
    any_cell = next(c for c in run.load(write_run(tmp_path / "run")).measured if not c.is_reference)
    cell = dataclasses.replace(any_cell, map50_95=0.5 + delta, map_delta=delta, map_delta_low=low, map_delta_high=high)
    kept = retention.retention(cell)
    assert kept is not None
    assert kept.reached == reached
    assert kept.text.replace("\N{NO-BREAK SPACE}", " ") == text
    assert retention.shown(cell) == (reached or kept.text)


def test_a_reference_keeps_nothing_of_itself(tmp_path: Path) -> None:
    read = run.load(write_run(tmp_path / "run"))
    kept = column(tables.comparison(read, Own({}), EN), "Keeps")
    assert kept[cell_id("pytorch", "fp32")].text == "reference"
    assert kept[cell_id("openvino", "int8")].text in ("≥ 99 %", "≥ 95 %")
    assert kept[cell_id("openvino", "int8")].note.endswith("]")
    assert retention.retention(next(cell for cell in read.measured if cell.is_reference)) is None

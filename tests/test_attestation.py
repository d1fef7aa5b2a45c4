"""What stands behind an attestation: limits on raw outputs by arithmetic, and what it says that it only declares."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_fixture import write_run

from bench.decide.timings import Own
from bench.grid import matrix
from bench.grid.schema import ParityFigures
from bench.guest.runtimes import _ort_nodes as ort_nodes
from bench.guest.runtimes import _tasks
from bench.guest.runtimes import _told as told
from bench.measure.expectation import beyond, too_near
from bench.places import ROOT, RUNTIMES
from bench.report import outcomes, tables
from bench.store import reading
from bench.store.reading import Run
from bench.store.tables import read_table
from bench.words.locale import texts

EN = texts("report", "en")

RECORDED = sorted((ROOT / "results" / "reference").glob("*/cells.parquet"))
MATRIX = matrix.load()
LIMITS = MATRIX.parity


def differences(row: Any) -> dict[str, float]:
    """What a recorded row's raw outputs were from PyTorch FP32's."""
    found = {name: getattr(row, f"parity_{name}") for name in ParityFigures.model_fields}
    return {name: float(value) for name, value in found.items() if pd.notna(value)}


def recorded() -> list[tuple[str, str, str, dict[str, float]]]:
    """Name, arithmetic, coarsest type and differences of every recorded row that was compared with another."""
    rows: list[tuple[str, str, str, dict[str, float]]] = []
    for path in RECORDED:
        table = read_table(path.parent, "cells")
        for row in table[table.parity_images.notna()].itertuples():
            spec = MATRIX.options[str(row.option)].precisions[str(row.precision)]
            arithmetic = spec.compute_on.get(str(row.target), spec.compute)
            if str(row.cell_id) != str(row.reference_id):
                name = f"{path.parent.name}/{row.cell_id}"
                rows.append((name, arithmetic, spec.stored or arithmetic, differences(row)))
    return rows


ROWS = recorded()


def test_there_is_enough_to_judge_the_limits_by() -> None:
    assert len(ROWS) > 100
    assert {arithmetic for _, arithmetic, _, _ in ROWS} == {"f32", "tf32", "f16", "bf16", "i8"}


def test_every_recorded_row_is_within_the_limits_of_its_arithmetic() -> None:
    for name, arithmetic, rounding, found in ROWS:
        assert not beyond(found, LIMITS, rounding), name
        assert not too_near(found, LIMITS, arithmetic), name


def test_what_was_rounded_is_no_float32_under_any_name() -> None:
    """Each recorded row that rounds, had it been attested as float32; TorchScript's, 17 px off, once was."""
    rounded = [(name, found) for name, _, rounding, found in ROWS if rounding != "f32"]
    assert any("torchscript" in name and found["box_max"] > 17 for name, found in rounded)
    for name, found in rounded:
        assert "f32 stays within" in beyond(found, LIMITS, "f32"), name


@pytest.mark.parametrize("claimed", ["tf32", "f16", "bf16", "i8"])
def test_float32_is_no_narrower_arithmetic_under_any_name(claimed: str) -> None:
    """A runtime that fell back to float32 and says what it was asked for."""
    plain = [(name, found) for name, _, rounding, found in ROWS if rounding == "f32"]
    assert len(plain) > 30
    for name, found in plain:
        assert f"{claimed} moves them by" in too_near(found, LIMITS, claimed), name


@pytest.mark.parametrize("claimed", ["tf32", "f16"])
def test_bfloat16_and_integers_are_no_half_precision(claimed: str) -> None:
    """On the network with COCO weights; the bench's own small one is moved less by anything."""
    coarser = [(name, found) for name, arithmetic, _, found in ROWS if arithmetic in ("bf16", "i8") and "coco" in name]
    assert len(coarser) > 10
    for name, found in coarser:
        assert f"{claimed} stays within" in beyond(found, LIMITS, claimed), name


@pytest.mark.parametrize("claimed", ["f32", "tf32", "f16", "bf16", "i8"])
def test_another_network_is_beyond_every_limit(claimed: str) -> None:
    """Boxes anywhere on 640 px are a third of that apart on average."""
    uniform = np.random.default_rng(0).random((2, 10_000)) * 640
    assert f"{claimed} stays within" in beyond({"box_mean": float(np.ptp(uniform, 0).mean())}, LIMITS, claimed)


def test_words_name_the_figure_its_unit_and_the_limit() -> None:
    assert beyond({"box_max": 17.6, "score_max": 0.0}, LIMITS, "f32").startswith(
        "Raw outputs are 17.6 px from PyTorch FP32's on the same inputs (box_max); f32 stays within 1 px."
    )
    assert "0.3 from PyTorch FP32's on the same inputs (score_max); tf32 stays within 0.1." in beyond(
        {"score_max": 0.3}, LIMITS, "tf32"
    )
    assert "f16 moves them by 0.003 px at least" in too_near({"box_mean": 0.001}, LIMITS, "f16")
    # A task without boxes, and an arithmetic without limits, have nothing to be held against.
    assert not too_near({"mask_max": 0.0}, LIMITS, "f16")
    assert not beyond({"box_max": 1e6}, {}, "f32")


@pytest.mark.parametrize(
    ("counted", "said"),
    [
        ({"f32": 88}, "f32"),
        ({"f32": 87, "tf32": 1}, "tf32"),
        ({"f32": 80, "bf16": 6, "f16": 2}, "bf16"),
        ({"i8": 87, "f32": 1}, "i8"),
        ({"f16": 87, "f32": 1}, "f16"),
        ({"f32": 60, "i8": 28}, "f32"),  # integers beside float32 are a quantised network's, not a rounded one's
        ({}, ""),
    ],
)
def test_float32_is_said_only_where_no_other_float_was_used(counted: dict[str, int], said: str) -> None:
    assert told.arithmetic(counted) == said


def test_places_are_all_named() -> None:
    assert told.places({"cuda": 88}) == "cuda"
    assert told.places({"cpu": 2, "cuda": 86}) == "cuda + cpu"  # which is not "cuda", and so invalid


def test_a_profile_tells_where_and_in_what_each_convolution_ran() -> None:
    """A session on CUDA that left one convolution to the processor; what is no executed kernel does not count."""

    def kernel(operator: str, kind: str, provider: str) -> dict[str, Any]:
        types = [{kind: [1, 3, 8, 8]}, {kind: [4, 3, 3, 3]}]
        return {"cat": "Node", "args": {"op_name": operator, "provider": provider, "input_type_shape": types}}

    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    told_of = [
        {"cat": "Session", "args": {}},
        {"cat": "Node", "args": {"op_name": "Conv", "provider": "", "input_type_shape": []}},
        kernel("Conv", "float", cuda), kernel("FusedConv", "float", cuda), kernel("Conv", "float16", cpu),
        kernel("Add", "float", cuda),
    ]  # fmt: skip
    kernels = [event["args"] for event in ort_nodes.executed(told_of)]
    assert len(kernels) == 4
    ran = ort_nodes.convolutions(kernels)
    assert ort_nodes.named(ran) == dict.fromkeys(
        (f"Conv float on {cuda}", f"Conv float16 on {cpu}", f"FusedConv float on {cuda}"), 1
    )
    by_compute = {ort_nodes.COMPUTE[kind]: 1 for _, kind, _ in ran}  # one each is enough
    assert told.arithmetic(by_compute) == "f16"


FIELDS = ("device", "provider", "compute", "threads", "input_shape")
ADAPTERS = {path.stem: path for path in RUNTIMES.glob("[!_]*.py")}


def documented() -> dict[str, list[str]]:
    """What docs/attestation.md says of each runtime's fields, with what it says of another where it points to that."""
    lines = (ROOT / "docs" / "attestation.md").read_text(encoding="utf-8").splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    rows = {name.strip("`"): cells for name, *cells in split}
    for cells in rows.values():
        for place, cell in enumerate(cells):
            other = re.search(r"as `(\w+)`", cell)
            cells[place] += f" [{rows[other[1]][place]}]" if other else ""
    return rows


def declaring(adapter: Path) -> set[str]:
    """Fields that an adapter, or what it takes `attest` from, may list as declared."""
    shared = re.findall(r"from (?:\.(_\w+) import .*\battest\b|\. import (_tflite))", adapter.read_text("utf-8"))
    files = [adapter, *(RUNTIMES / f"{one or other}.py" for one, other in shared)]
    lines = [line for file in files for line in file.read_text("utf-8").splitlines() if '"declared"' in line]
    assert lines, f"{adapter.name} does not say what it declares"
    return {name for line in lines for name in re.findall(r'"(\w+)"', line)} - {"declared"}


def test_every_runtime_is_documented() -> None:
    rows = documented()
    assert rows.keys() == ADAPTERS.keys()
    for name, cells in rows.items():
        assert len(cells) == len(FIELDS), name
        assert all(cell.startswith(("read: ", "declared", "not asked: ")) for cell in cells), name


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_what_a_runtime_may_declare_is_documented_as_that(name: str) -> None:
    told_of = {field for field, cell in zip(FIELDS, documented()[name], strict=True) if "declared" in cell}
    assert told_of == declaring(ADAPTERS[name])


def with_declared(run: Run, *keys: str) -> Run:
    """A run in which every runtime declares these keys."""
    cells = [replace(cell, attested={**cell.attested, "declared": json.dumps(keys)}) for cell in run.cells]
    return replace(run, cells=tuple(cells))


def shown(run: Run, status: str) -> dict[str, tuple[str, str]]:
    """Text and mark of each key in the report's table of what really ran, for the first cell of that status."""
    keys, rows = outcomes.attestation(run, EN)
    return next(dict(zip(keys, values, strict=True)) for cell, values in rows if cell.status == status)


def test_what_is_declared_says_so_and_confirms_nothing(tmp_path: Path) -> None:
    run = reading.load(write_run(tmp_path / "run", options=("pytorch", "onnx")))
    declared = with_declared(run, "compute", "version")
    assert shown(run, "measured")["compute"] == ("f32", "yes")
    assert shown(declared, "measured")["compute"] == ("f32 (declared)", "")
    assert shown(declared, "measured")["version"] == ("2.13.0 (declared)", "")
    assert shown(declared, "measured")["threads"] == ("2", "yes")
    assert shown(declared, "invalid")["compute"] == ("bf16, asked f32", "no")  # a contradiction stays one
    assert "declared" not in shown(declared, "measured")


def test_a_declared_arithmetic_is_called_that_wherever_it_is_shown(tmp_path: Path) -> None:
    run = reading.load(write_run(tmp_path / "run", options=("pytorch", "onnx"), problems=False))
    declared, plain = with_declared(run, "compute").cells[0], with_declared(run, "threads").cells[0]
    assert (declared.computed_in, plain.computed_in) == ("f32 (declared)", "f32")
    table = tables.comparison(with_declared(run, "compute"), Own({}), EN)
    column = [column.title for column in table.columns].index("Compute")
    assert {values[column].text for _, values in table.rows} == {"f32 (declared)", "i8 (declared)"}
    # An older run, or a runtime that writes anything else there, declares nothing.
    assert not replace(declared, attested={}).declared
    assert not replace(declared, attested={"declared": "no list"}).declared


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not list a process's threads")
@pytest.mark.parametrize("computing", [1, 2])
def test_threads_that_compute_are_told_from_those_that_rest(computing: int) -> None:
    """The hash is C that lets go of Python's lock, so both threads are at it; this one and five others wait."""
    block, together = bytes(50_000_000), threading.Barrier(computing)

    def compute(_: int) -> str:
        together.wait()
        return hashlib.sha256(block).hexdigest()

    with ThreadPoolExecutor(computing) as pool, ThreadPoolExecutor(5) as others:
        ready = threading.Barrier(6)
        resting = [others.submit(ready.wait) for _ in range(5)]
        list(pool.map(compute, range(computing)))
        assert _tasks.worked(lambda: list(pool.map(compute, range(computing)))) == computing
        ready.wait()
        assert all(one.done() or one.result() >= 0 for one in resting)


def test_where_threads_are_not_listed_none_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_tasks, "_FOLDER", tmp_path / "absent")
    assert _tasks.worked(lambda: None) is None
    assert _tasks.tasks() == 0

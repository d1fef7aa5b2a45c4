"""Whose times they are: the machine that a run's cells are told to be of, its GPU and its fleet included."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from report_fixture import cell_id, write_run
from running import bench

from bench import store
from bench.decide.claims import tables as claims
from bench.decide.deploy.candidates import fields
from bench.grid import machine
from bench.places import ROOT
from bench.report import build
from bench.store import reading

BOARD = "board-9000-4cpu-8gb-abcdef"
NAMED = "Board 9000, 4 CPUs, 8 GB, Linux"
OWN = "Example CPU, 2 CPUs, 24 GB, Linux 6.1 x86"
"""Of the fixture's machine, whose system is told with hyphens."""
H200 = ROOT / "results" / "reference" / "coco128-640-cuda"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of which another machine timed ONNX FP32."""
    run = write_run(tmp_path_factory.mktemp("fleet") / "run")
    cells = [
        row | {"timed_on": BOARD if row["cell_id"] == cell_id("onnx", "fp32") else "own"}
        for row in pq.read_table(run / "cells.parquet").to_pylist()
        if row["status"] == "measured"
    ]
    known = {"cpu": "Board 9000", "cpu_cores_logical": "4", "memory_bytes": "8000000000", "system": "Linux-6"}
    facts = pq.read_table(run / "environment.parquet").to_pylist()
    facts += [{"scope": f"machine:{BOARD}", "key": key, "value": value} for key, value in known.items()]
    store.write_table(run, "cells", cells)
    store.write_table(run, "environment", facts)
    return run


@pytest.mark.parametrize("told", [True, False], ids=["a fact of the machine", "what its target found"])
def test_a_run_on_a_gpu_names_it(told: bool, tmp_path: Path) -> None:
    """Also one of before accelerators were a fact; home, report and `recommend` say it as the guide's verdicts do."""
    place = shutil.copytree(H200, tmp_path / "run")
    if not told:
        facts = pq.read_table(place / "environment.parquet").to_pylist()
        store.write_table(place, "environment", [fact for fact in facts if fact["key"] != "accelerators"])
    run = reading.load(place)
    assert bool(run.fact("accelerators", scope="machine")) is told
    (name,) = {field.machine for field in fields(run)}
    assert "NVIDIA H200" in name
    table = store.read_table(place, "environment")
    assert name == claims.machine_name(table)
    assert name in json.loads(bench("recommend", place, "--target", "cuda", "--format", "json").said)["machine"]


def test_a_machine_without_a_gpu_is_named_without_one() -> None:
    absent = {"cuda": f"NVIDIA GPU{machine.NOT_FOUND}nothing. It needs one."}
    assert machine.run_name({"cpu": "A", "system": "Linux-6"}, absent) == "A, Linux"
    assert machine.run_name({"cpu": "A", "system": "Linux-6"}, {"cuda": "GPU 0: B"}) == "A, GPU 0: B, Linux"
    known = {"cpu": "A", "system": "Linux-6", "accelerators": "GPU 0: C"}
    assert machine.run_name(known, {"cuda": "GPU 0: B"}) == "A, GPU 0: C, Linux"


def test_exports_say_whose_times_they_are(fleet: Path) -> None:
    own = {cell.cell_id: reading.load(fleet).machine_name(cell) for cell in reading.load(fleet).measured}
    assert own[cell_id("onnx", "fp32")] == NAMED
    assert set(own.values()) == {NAMED, OWN}
    rows = list(csv.DictReader(io.StringIO(bench("show", fleet, "--format", "csv").said)))
    assert {row["cell_id"]: row["machine"] for row in rows} == own
    assert {row["timed_on"] for row in rows if row["machine"] == NAMED} == {BOARD}
    told = json.loads(bench("show", fleet, "--format", "json").said)["cells"]
    assert {one["cell_id"]: (one["timed_on"], one["machine"]) for one in told} == {
        row["cell_id"]: (row["timed_on"], row["machine"]) for row in rows
    }
    lines = [line for line in bench("show", fleet, "--format", "markdown").said.splitlines() if line.startswith("|")]
    assert "Timed on" in lines[0]
    assert sum(NAMED in line for line in lines) == 1
    assert sum(OWN in line for line in lines) == len(own) - 1


@pytest.mark.parametrize(("language", "words"), [("en", "Timed on"), ("zh", "测量机器")])
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_terminal_says_whose_times_they_are(fleet: Path, language: str, words: str, columns: int) -> None:
    said = bench("show", fleet, "--lang", language, columns=columns).said
    flat = " ".join(said.split())
    assert f"{words} {NAMED}" in flat
    assert f"{words} {OWN}" in flat
    assert max(map(len, said.splitlines()[:-2])) <= columns


def test_a_run_of_one_machine_does_not_repeat_its_name(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    for form in ("table", "markdown"):
        assert "Timed on" not in bench("show", run, "--format", form).said
    assert "Timed on" not in build(run, tmp_path / "report.html").read_text(encoding="utf-8")

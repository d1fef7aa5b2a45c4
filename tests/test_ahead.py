"""Artifacts that are exported before a run measures: several at once, each problem its cell's, ended by Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from rich.console import Console
from test_artifacts import CoreEnvironments, exports, plan

from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.measure import ahead
from bench.measure.ahead import export_ahead
from bench.measure.outfit import Ingredients, Outfit
from bench.places import MATRICES
from bench.progress import Reporter
from bench.reasons import CellProblem, Reason
from bench.tasks.dataset import Dataset
from bench.tasks.detect.task import DETECT
from bench.wall.artifacts import ExportRequest


@pytest.fixture(autouse=True)
def _room(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two processors and eight GiB free, whatever else is at work on this one."""
    monkeypatch.setattr(ahead, "room", lambda: 2)


@dataclass
class Bench:
    """Cells whose exporters do what a test has them do, and what was said meanwhile."""

    outfit: Outfit
    cells: list[Cell]
    said: io.StringIO

    def ahead(self) -> None:
        export_ahead(self.outfit, self.cells)


class Planned(Outfit):
    """An outfit whose cells are exported as `plans` says, by option."""

    plans: Mapping[str, ExportRequest]

    def stages(self, cell: Cell) -> list[ExportRequest]:
        return [self.plans[cell.option.id]]


def bench(folder: Path, **behaviours: str) -> Bench:
    """A cell of each of these options."""
    read, cache, said = matrix.load(), folder / "cache", io.StringIO()
    given = Ingredients(
        read, read.sweep("smoke"), cache, DETECT, {}, cast("Dataset", None),
        CoreEnvironments(MATRICES, cache), Reporter(Console(file=said, width=200)),
    )  # fmt: skip
    outfit = Planned(given)
    outfit.plans = {name: request(folder, name, behaviour=how) for name, how in behaviours.items()}
    return Bench(outfit, [Cell("m", read.options[name], "fp32", "cpu", 320, 1, 1) for name in behaviours], said)


def request(folder: Path, option: str, **content: Any) -> ExportRequest:
    made = plan(folder, option=option, **content)
    return replace(made, option=option, weights=made.weights.rename(folder / f"{option}.pt"))


def sizes(bench: Bench) -> Sequence[int]:
    return [bench.outfit.artifact(cell).size_bytes for cell in bench.cells]


def test_two_are_exported_at_once_and_then_there(tmp_path: Path) -> None:
    made = bench(tmp_path, torchscript="meet", onnx="meet")
    made.ahead()
    assert sizes(made) == [1002, 1002]
    assert exports(tmp_path) == 2
    made.ahead()
    assert exports(tmp_path) == 2, "they are in the cache"


def test_those_in_the_cache_and_a_single_one_are_left_to_their_turns(tmp_path: Path) -> None:
    made = bench(tmp_path, torchscript="", onnx="")
    made.outfit.artifact(made.cells[0])
    made.ahead()
    assert exports(tmp_path) == 1


def test_cells_that_run_the_same_artifact_have_it_exported_once(tmp_path: Path) -> None:
    made = bench(tmp_path, torchscript="", onnx="")
    made.cells += [replace(made.cells[1], target="arm-cpu"), replace(made.cells[1], threads=2)]
    made.ahead()
    assert exports(tmp_path) == 2
    assert sizes(made) == [1002] * 4


def test_a_problem_is_its_cells_and_is_not_tried_again(tmp_path: Path) -> None:
    made = bench(tmp_path, torchscript="raise", onnx="", openvino="sigkill")
    made.ahead()
    reasons = []
    for cell in (made.cells[0], made.cells[2]):
        with pytest.raises(CellProblem) as problem:
            made.outfit.artifact(cell)
        reasons.append(problem.value.reason)
    assert reasons == [Reason.EXPORT_FAILED, Reason.CRASHED]
    assert made.outfit.artifact(made.cells[1]).size_bytes == 1002
    assert exports(tmp_path) == 3


def test_an_environment_that_cannot_be_had_costs_its_cells_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench(tmp_path, torchscript="", onnx="", openvino="")
    ensure = CoreEnvironments.ensure

    def failing(environments: CoreEnvironments, family: str, on_output: Any = None) -> Any:
        if family == "broken":
            raise CellProblem(Reason.ENVIRONMENT_FAILED, "no network")
        return ensure(environments, family, on_output)

    monkeypatch.setattr(CoreEnvironments, "ensure", failing)
    plans = cast("dict[str, ExportRequest]", made.outfit.plans)  # type: ignore[attr-defined]  # of Planned
    plans["onnx"] = replace(plans["onnx"], environment="broken")
    made.ahead()
    assert exports(tmp_path) == 2
    with pytest.raises(CellProblem, match="no network"):
        made.outfit.artifact(made.cells[1])


def test_what_is_built_for_a_device_has_the_machine_to_itself(tmp_path: Path) -> None:
    """Whoever builds an engine times kernels on the device."""
    made = bench(tmp_path, tensorrt="", onnx="", openvino="")
    made.ahead()
    assert exports(tmp_path) == 2


def test_a_machine_without_room_for_two_exports_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(ahead, "_BYTES", psutil.virtual_memory().total)
    made = bench(tmp_path, torchscript="", onnx="")
    made.ahead()
    assert exports(tmp_path) == 0


def test_what_took_long_has_a_line_in_a_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.progress.QUIET_SECONDS", 0.0)
    made = bench(tmp_path, torchscript="slow", onnx="slow")
    made.ahead()
    said = made.said.getvalue()
    assert "torchscript-fp32-cpu-320  export  " in said
    assert "export of 2 artifacts, 2 at a time  " in said


def test_ctrl_c_ends_exporters_and_leaves_nothing(tmp_path: Path) -> None:
    made = bench(tmp_path, torchscript="sleep", onnx="sleep", openvino="")
    before = set(psutil.Process().children(recursive=True))

    def interrupt() -> None:
        while exports(tmp_path) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        made.ahead()
    assert exports(tmp_path) == 2, "the third had not begun"
    assert not set(psutil.Process().children(recursive=True)) - before
    assert [path.name for path in (tmp_path / "cache" / "artifacts").iterdir() if path.is_dir()] == []

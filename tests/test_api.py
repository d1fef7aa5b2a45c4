"""The Python interface: what it names, what it returns, and that a run leaves the process of its caller as it was."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from running import signals_kept
from sweeps import LATENCY_OF_SECONDS, matrices_with

import bench
from bench import engine, store
from bench.decide import compare
from bench.grid.request import OPTIONS, Request, parameter
from bench.places import RECORDED, ROOT
from bench.progress import Reporter
from bench.store import metrics

RUNS = sorted(path.parent.name for path in RECORDED.glob("*/cells.parquet"))
needs_runs = pytest.mark.skipif(not RUNS, reason="recorded runs are in a checkout only")
needs_environments = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="environments need Python 3.11")

POINT = {"imgsz": 320, "batch": 1, "threads": 1}
"""What every row of `cells` has."""

SWEEP = """
description = "Seconds: for the tests of the Python interface."
imgsz = [160]
images = 8
options = ["pytorch"]
precisions = ["fp32"]
targets = ["cpu"]
"""
SWEEP += LATENCY_OF_SECONDS

USER = """
import bench
from bench import Inspected, Results, StoreError, UsageError, compare_cells, doctor, inspect, read, recommend, run

results: Results = run(options=["onnx"], precisions="fp32", imgsz=[320, 640], images=16, cache=None, run_id="x")
again: Results = bench.read(results.directory)
table = compare_cells(results, "a", "b").loc["time", "ratio"]
found = recommend(again, max_size=8, in_guide=True).attrs["summary"]
doctor(cache="c").query("good")
seen: Inspected = inspect("best.pt", data="data.yaml", imgsz=[320, 640], images=16)
first: str = seen.problems[0] if not seen.ready else seen.warnings.text[0]
run(imgz=320)  # wrong
inspect(image=1)  # wrong
run(images=[1.5])  # wrong
compare_cells(None, 1, "b")  # wrong
recommend(max_size="8")  # wrong
number: int = results.cells  # wrong
bench.runs()  # wrong
"""


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrices_with(SWEEP, tmp_path_factory.mktemp("matrices"), "seconds")


def compared(*arguments: Any) -> Any:
    """`compare_cells`, whose elements the stubs of pandas know too little of."""
    return bench.compare_cells(*arguments)


def cells_of(run: Any) -> Any:
    """The cells of a run by their id, likewise."""
    return bench.read(run).cells.set_index("cell_id", drop=False)


def test_the_exported_names_are_these() -> None:
    assert sorted(bench.__all__) == sorted(
        [
            "Inspected", "Results", "StoreError", "UsageError", "__version__", "compare_cells", "doctor", "inspect",
            "read", "recommend", "run",
        ]
    )  # fmt: skip
    assert set(bench.__all__) <= set(dir(bench))
    for name in set(bench.__all__) - {"__version__"}:
        assert inspect.getdoc(getattr(bench, name)), name
    for name in ("run", "inspect", "compare_cells", "recommend", "doctor"):
        assert "Example: bench." in str(inspect.getdoc(getattr(bench, name))), name


def test_a_name_that_is_not_there_is_told() -> None:
    with pytest.raises(AttributeError, match="no attribute 'runs'"):
        bench.runs()  # type: ignore[attr-defined]  # on purpose


def test_naming_the_package_imports_nothing_heavy() -> None:
    code = "import sys, bench; dir(bench); print({'pandas', 'numpy', 'pytest', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_run_shows_every_option_with_its_meaning() -> None:
    signature = inspect.signature(bench.run)
    assert list(signature.parameters) == ["keyword", "progress", *map(parameter, OPTIONS)]
    told = inspect.getdoc(bench.run)
    assert told is not None
    for name, option in OPTIONS.items():
        assert f"{parameter(name)}: {option.help}" in told


def test_mypy_finds_what_a_user_gets_wrong(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER, encoding="utf-8")
    # As for an installed package: only what is wrong in the user's own file is told.
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "user.py"]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "users")]  # pandas' stubs alone take twenty seconds
    env = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    told = {
        int(line.split(":")[1]) for line in done.stdout.splitlines() if line.startswith("user.py") and "error" in line
    }
    wrong = {number for number, line in enumerate(USER.splitlines(), start=1) if line.endswith("# wrong")}
    assert told == wrong, done.stdout
    assert (ROOT / "bench" / "py.typed").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optons": "onnx"}, r"no option optons \(did you mean options\?\); it has: sweep, model,"),
        ({"options": "onx"}, r"did you mean onnx\?"),
        ({"sweep": "smok"}, r"did you mean smoke\?"),
        ({"imgsz": "many"}, "whole numbers"),
        ({"run_id": "a/b"}, "slash"),
        ({"run_id": ""}, "may not be empty"),
        ({"run_id": "a\nb"}, "control character"),
        ({"run_id": "a" * 300}, "200 bytes at most, not 300"),
        ({"run_id": "名" * 100}, "200 bytes at most, not 300"),
        ({"options": []}, "--options is empty"),
    ],
)
def test_wrong_usage_is_told_before_anything_starts(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(bench.UsageError, match=said):
        bench.run(results=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_selection_without_cells_is_wrong_usage(matrices: Path, tmp_path: Path) -> None:
    with pytest.raises(bench.UsageError, match="no cell matches"):
        bench.run(matrices=matrices, sweep="seconds", results=tmp_path, keyword="nothing", progress=False)


def test_what_the_user_sets_for_a_pytest_of_their_own_is_not_read(
    matrices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That nothing matches is told after pytest has read its settings, plugins and conftests, and collected."""
    for name, value in {
        "PYTEST_ADDOPTS": "--no-such-option",
        "PYTEST_PLUGINS": "no_such_plugin",
        "PYTEST_DEBUG": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="utf-8")
    (tmp_path / "conftest.py").write_text("raise RuntimeError('of the folder')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(bench.UsageError, match="no cell matches"):
        bench.run(matrices=matrices, sweep="seconds", keyword="nothing", progress=False)
    assert capsys.readouterr() == ("", "")
    assert os.environ["PYTEST_ADDOPTS"] == "--no-such-option"


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(bench.UsageError, match="no run in"):
        bench.read(results=tmp_path)
    with pytest.raises(bench.UsageError, match="no run 'coco'"):
        bench.read("coco", results=tmp_path)
    with pytest.raises(bench.UsageError, match="File name too long"):
        bench.read("coco" * 100, results=tmp_path)


@needs_runs
def test_a_run_misspelt_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(bench.UsageError, match=r"did you mean coco128-640-cpu\?"):
        bench.read("coco128-640-cp", results=tmp_path)


def test_a_run_that_measured_nothing_can_be_read(tmp_path: Path) -> None:
    skipped = {"run_id": "r", "cell_id": "m/onnx-fp32-cpu-320-b1-t1", "status": "skipped", "reason_code": "interrupted"}
    store.write_table(tmp_path, "cells", [skipped | POINT])
    store.write_table(tmp_path, "environment", [])
    results = bench.read(tmp_path)
    assert len(results.cells) == 1
    assert "1 skipped" in repr(results)
    for name in ("measured", "metrics", "samples", "launches", "detections", "ground_truth", "environment"):
        table = getattr(results, name)
        assert table.empty, name
        assert len(table.columns) > 2, name
    found = compared(results, "onnx", "onnx-fp32")
    assert found.index.tolist() == ["time"]
    assert found.loc["time", ["one", "other", "ratio"]].isna().all()
    with pytest.raises(bench.UsageError, match="nothing to choose from"):
        bench.recommend(results)


@needs_runs
@pytest.mark.parametrize("name", RUNS)
def test_recorded_runs_can_be_read(name: str) -> None:
    results = bench.read(name)
    assert results.report.is_file()
    assert f"<Results of {name}: " in repr(results)
    measured = results.measured
    assert len(measured) == (results.cells.status == "measured").sum()
    ratios = measured.latency_ratio.dropna()
    assert ratios.is_monotonic_decreasing
    assert set(results.metrics.cell_id) >= set(measured.index)


@needs_runs
@pytest.mark.parametrize("name", RUNS)
def test_a_recorded_report_shows_no_photograph_that_is_not_ours(name: str) -> None:
    """Only the images that this project renders itself may be published; `report` without --image leaves others out."""
    pictures = bench.read(name).report.read_text(encoding="utf-8").count("data:image/")
    assert pictures == 0 or (pictures == 1 and name.startswith("demo-"))


@needs_runs
@pytest.mark.parametrize("name", RUNS)
def test_the_metrics_of_recorded_runs_agree_with_their_cells(name: str) -> None:
    results = bench.read(name)
    cells, long = cells_of(name), results.metrics
    fields = {field.name: field for field in store.TABLES["cells"] if b"better" in field.metadata}
    assert set(long.metric) <= set(fields)
    assert len(long) == cells[list(fields)].notna().sum().sum()
    for metric, rows in long.groupby("metric", observed=True):
        column = cells[str(metric)]
        assert rows.set_index("cell_id").value.to_dict() == column.dropna().to_dict()
        for end in ("low", "high"):
            ends = cells.get(f"{metric}_{end}", pd.Series(np.nan, cells.index)).loc[rows.cell_id]
            np.testing.assert_array_equal(rows[end].to_numpy(float), ends.to_numpy(float))
        assert set(rows.unit) == {fields[str(metric)].metadata[b"unit"].decode()}
        assert set(rows.direction) == {fields[str(metric)].metadata[b"better"].decode()}


def test_old_runs_get_the_table_that_new_runs_write(tmp_path: Path) -> None:
    row = {"run_id": "r", "cell_id": "m/a", "map50": 0.5, "map_delta": -0.1, "map_delta_low": -0.2, "size_bytes": 7}
    store.write_table(tmp_path, "cells", [row | POINT])
    derived = metrics.read(tmp_path)
    store.write_table(tmp_path, "metrics", metrics.from_cells([row]))
    pd.testing.assert_frame_equal(derived, metrics.read(tmp_path))
    assert derived.metric.tolist() == ["map50", "map_delta", "size_bytes"]
    assert derived.low.tolist()[1] == -0.2
    assert derived.high.isna().all()


LOWER = ("_ms", "_bytes", "_seconds", "_j", "_max", "_mean", "_p999")
HIGHER = ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large", "map_delta", "latency_ratio")


def test_every_figure_says_which_way_is_better() -> None:
    for field in store.TABLES["cells"]:
        better = field.metadata.get(b"better", b"").decode()
        if field.name in HIGHER:
            assert better == "higher", field.name
        elif field.name.endswith(LOWER):
            assert better == "lower", field.name
        else:
            assert not better, field.name


def pairs() -> list[tuple[str, str]]:
    """A cell of every run: the fastest, where any was timed."""
    measured = {name: bench.read(name).measured.index for name in RUNS}
    return [(name, next(cell for cell in cells if "pytorch-fp32" not in cell)) for name, cells in measured.items()]


@needs_runs
@pytest.mark.parametrize("name", RUNS)
def test_against_the_reference_times_are_those_that_are_stored(name: str) -> None:
    """The ratio is the stored one; its interval too, or wider where launches resemble their neighbours."""
    cells, samples = cells_of(name), bench.read(name).samples
    timed = cells[cells.latency_ratio.notna() & (cells.status == "measured")]
    paid = 0
    for cell, row in timed[timed.index != timed.reference_id].iterrows():
        found = compare.time(samples, cells.loc[[cell, row.reference_id]])
        assert found.ratio is not None
        assert found.ratio.value == pytest.approx(1 / row.latency_ratio, rel=1e-9), cell
        low, high = float(found.ratio.low or 0), float(found.ratio.high or 0)
        ends = (1 / row.latency_ratio_high, 1 / row.latency_ratio_low)
        wider = (low, high) != pytest.approx(ends, rel=1e-9)
        assert not wider or (low < ends[0] < ends[1] < high)
        paid += wider
        assert found.one == row.latency_p50_ms / row.batch
    assert paid < max(1, len(timed) / 2)


@needs_runs
@pytest.mark.parametrize(("name", "cell"), pairs())
def test_against_the_reference_accuracy_is_what_is_stored(name: str, cell: str) -> None:
    row = cells_of(name).loc[cell]
    found = compared(name, cell, row.reference_id).loc["map50_95"]
    stored = [row.map_delta, row.map_delta_low, row.map_delta_high]
    assert [found.difference, found.difference_low, found.difference_high] == stored
    assert np.isnan(found.ratio)


@needs_runs
def test_cells_of_other_batches_are_compared_per_image() -> None:
    results = bench.read("coco128-640-scaling")
    cells = cells_of("coco128-640-scaling").dropna(subset="latency_ratio")
    option, group = next((o, g) for o, g in cells.groupby(["option", "precision", "threads"]) if len(set(g.batch)) > 1)
    one, other = group.sort_values("batch").iloc[[0, -1]].to_dict("records")
    assert one["batch"] < other["batch"], option
    found = compared(results, one["cell_id"], other["cell_id"]).loc["time"]
    assert found.one == one["latency_p50_ms"] / one["batch"]
    assert found.other == other["latency_p50_ms"] / other["batch"]
    assert found.ratio == pytest.approx(found.one / found.other, rel=0.15)
    assert found.ratio_low < found.ratio < found.ratio_high
    assert found.unit == "ms per image"


@needs_runs
def test_a_cell_on_some_of_the_images_is_compared_on_those() -> None:
    results = bench.read("coco128-320-arm-emulated")
    cells = cells_of(results.directory).query("status == 'measured'")
    untimed = cells[cells.latency_ratio.isna()].iloc[0]
    found = compared(results, untimed.cell_id, untimed.reference_id)
    assert found.loc["time", ["one", "ratio"]].isna().all()
    if untimed.images < cells.images[untimed.reference_id]:
        assert found.loc["map50", ["difference", "ratio"]].isna().all()
    assert found.loc["size_bytes", "ratio"] == pytest.approx(
        found.loc["size_bytes", "one"] / found.loc["size_bytes", "other"]
    )


@needs_runs
def test_cells_are_named_by_as_much_as_is_theirs_alone() -> None:
    results = bench.read("coco128-640-guide")
    short = compared(results, "onnx-fp32-cpu", "openvino-fp32-cpu")
    whole = compared(results, "yolo11n-coco/onnx-fp32-cpu-640-b1-t1", "openvino-fp32-cpu-640-b1-t1")
    pd.testing.assert_frame_equal(short, whole)
    swapped = compared(results, "openvino-fp32-cpu", "onnx-fp32-cpu")
    assert short.loc["time", "ratio"] == pytest.approx(1 / swapped.loc["time", "ratio"])
    assert short.loc["map50_95", "difference"] == -swapped.loc["map50_95", "difference"]
    with pytest.raises(bench.UsageError, match=r"several cells 'onnx'.*onnx-int8"):
        compared(results, "onnx", "openvino-fp32-cpu")
    with pytest.raises(bench.UsageError, match=r"no cell 'onxx-fp32-cpu-640-b1-t1' \(did you mean onnx-fp32-cpu-640"):
        compared(results, "onxx-fp32-cpu-640-b1-t1", "openvino-fp32-cpu")


def test_a_short_name_means_the_cell_that_was_measured(tmp_path: Path) -> None:
    states = {"onnx-fp32-cpu": "measured", "onnx-fp32-cuda": "skipped", "onnx-int8-cuda": "skipped"}
    store.write_table(
        tmp_path,
        "cells",
        [
            {"run_id": "r", "cell_id": f"m/{name}", "status": state, "size_bytes": 7} | POINT
            for name, state in states.items()
        ],
    )
    store.write_table(tmp_path, "environment", [])
    assert compared(tmp_path, "onnx", "onnx-int8").loc["size_bytes", "ratio"] == 1
    store.write_table(tmp_path, "cells", [{"run_id": "r", "cell_id": f"m/{name}"} | POINT for name in states])
    with pytest.raises(bench.UsageError, match="several cells 'onnx-fp32': m/onnx-fp32-cpu, m/onnx-fp32-cuda"):
        compared(tmp_path, "onnx-fp32", "onnx-int8")


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT, env=os.environ | {"COLUMNS": "400"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


@needs_runs
def test_recommend_says_what_the_command_says() -> None:
    run = str(RECORDED / "coco128-640-guide")
    limits = ("--max-latency-ratio", "0.5", "--max-map-loss", "0.01")
    told = json.loads(command("recommend", run, "--in-guide", "--format", "json", *limits))
    found: Any = bench.recommend(run, in_guide=True, max_latency_ratio=0.5, max_map_loss=0.01)
    assert found.index.tolist() == [choice["cell_id"] for choice in told["choices"]]
    for cell, choice in zip(found.index, told.pop("choices"), strict=True):
        row = found.loc[cell]
        for name in ("name", "option", "precision", "in_guide", "standing", "on_front", "ties", "reproduce"):
            assert row[name] == choice[name], name
        assert (None if pd.isna(row["rank"]) else row["rank"]) == choice["rank"]
        assert row.why == "; ".join(choice["why"])
        for name, figure in choice["figures"].items():
            ends = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
            stored = [figure[end] for end in ("value", "low", "high")] if figure else [None] * 3
            assert [None if np.isnan(end) else end for end in ends] == stored, name
    assert json.loads(json.dumps(found.attrs)) == told
    with pytest.raises(bench.UsageError, match="--max-size"):
        bench.recommend(run, max_size=-1)
    with pytest.raises(bench.UsageError, match="more than one"):
        bench.recommend("coco128-640-scaling")


def test_doctor_says_what_the_command_says() -> None:
    told = dict(
        zip(("needed", "target", "environment"), re.split("Targets|Environments", command("doctor")), strict=True)
    )
    found: Any = bench.doctor()
    assert set(found.kind) == {"needed", "target", "environment"}
    assert found[found.kind == "needed"].good.all()
    for row in found.itertuples():
        line = next(line for line in told[row.kind].splitlines() if line.startswith(f"│ {row.name} "))
        assert row.text.split(",")[0] in line
        assert row.used_by in line
    assert found[found.kind == "environment"].used_by.str.len().gt(0).all()


def state() -> dict[str, Any]:
    """What a run must leave as it was."""
    return {
        "environment": dict(os.environ),
        "path": list(sys.path),
        "importers": list(map(repr, sys.meta_path)),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "hooks": [sys.excepthook, sys.unraisablehook, threading.excepthook],
        "warnings": list(warnings.filters),
        "folder": Path.cwd(),
        "threads": {thread.name for thread in threading.enumerate()},
        "children": psutil.Process().children(recursive=True),
    }


@needs_environments
def test_two_runs_in_one_process_leave_it_as_it_was(
    matrices: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import bench.report  # matplotlib keeps settings of its own, from its first import on

    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    monkeypatch.chdir(tmp_path)
    before = state()
    first = bench.run(matrices=matrices, sweep="seconds", progress=False)
    second = bench.run(matrices=matrices, sweep="seconds", progress=False, keyword="pytorch")
    assert state() == before
    assert capsys.readouterr().out == ""
    assert first.directory.parent == second.directory.parent == tmp_path / "results" / "runs"
    for results in (first, second):
        assert results.measured.index.str.endswith("/pytorch-fp32-cpu-160-b1-t1").all()
        assert len(results.measured) == 1, results.cells.reason.tolist()
        assert results.report.is_file()
        assert (results.directory / "metrics.parquet").is_file()
        stored = results.metrics.sort_values(["metric"], ignore_index=True)
        assert stored.metric.nunique() == len(stored) > 15
    assert bench.read().directory == second.directory


class Breaking(Reporter):
    """A progress display that fails in the middle of a phase."""

    def phase(self, cell: str, phase: str) -> None:
        super().phase(cell, phase)
        if phase.startswith("latency:"):
            raise OSError("the screen is gone")


@needs_environments
def test_an_error_in_the_middle_leaves_no_guest_behind(matrices: Path, tmp_path: Path) -> None:
    from rich.console import Console

    before = state()
    request = Request({"matrices": str(matrices), "sweep": "seconds", "results": str(tmp_path), "run-id": "r"})
    with pytest.raises(engine.BenchDefect, match="defect of the bench") as caught:
        engine.sweep(request, Breaking(Console(quiet=True)))
    assert "the screen is gone" in "".join(caught.value.__notes__)
    assert state() == before
    assert len(bench.read("r", results=tmp_path).cells) == 1


@needs_environments
def test_a_stop_leaves_no_guest_behind_and_keeps_what_was_measured(matrices: Path, tmp_path: Path) -> None:
    def stop_in_the_latency() -> None:
        while not list(tmp_path.glob("r/logs/*-latency.log")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)  # as a notebook's stop button does

    with signals_kept(signal.SIGINT):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
        before = state()
        thread = threading.Thread(target=stop_in_the_latency, daemon=True)
        thread.start()
        with pytest.raises(KeyboardInterrupt, match="what was measured is in"):
            bench.run(matrices=matrices, sweep="seconds", results=tmp_path, run_id="r", progress=False)
        thread.join()
        assert state() == before
    cell = cells_of(tmp_path / "r").iloc[0]
    assert cell.reason_code == "interrupted"
    assert cell.size_bytes > 0
    assert pd.isna(cell.map50_95), "of the few images that were through it would be that of another set"

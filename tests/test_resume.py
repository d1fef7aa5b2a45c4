"""A run that was stopped or killed goes on where it was: no finished cell again, no image twice; and memory is bounded.

Real runs on the embedded set with official annotations, of which a submission is made in the end.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from official import official_stats, write
from running import USERS_CACHE, bench
from sweeps import matrices_with
from test_kept import boxes
from test_models_real import changed
from test_sweep import SWEEP, interruptible

from bench import demo, store
from bench.grid import matrix
from bench.grid.matrix import Cell
from bench.measure import unscored
from bench.measure.instruments.latency import Latency
from bench.measure.prepare import _alone
from bench.measure.references import keep, kept
from bench.measure.unscored import Unscored
from bench.places import ROOT, SUITES
from bench.reasons import CellProblem, Reason, Status, UsageError
from bench.stats.turns import Turn
from bench.store import metrics, parts
from bench.store.before import Before
from bench.store.metrics import Figure
from bench.store.writing import RunStore
from bench.tasks.detect.boxes import Detections
from bench.tasks.detect.task import DETECT

IMAGES = 160
"""Two shards and a half."""
ONLY_CPU = SWEEP.replace("images = 24", f"images = {IMAGES}").replace('["cpu", "arm-cpu"]', '["cpu"]')
FIGURES = ["map50_95", "map_delta", "map_delta_low", "parity_box_max", "artifact_sha256", "images"]


@pytest.fixture(scope="module")
def matrices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return matrices_with(ONLY_CPU, tmp_path_factory.mktemp("matrices"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("official"), demo.prepare(USERS_CACHE / "demo"))


def command(matrices: Path, data: Path, results: Path, *more: str) -> list[str]:
    return [
        "run",
        "--matrices",
        str(matrices),
        "--sweep",
        "tiny",
        "--results",
        str(results),
        "--data",
        str(data),
        *more,
    ]


@pytest.fixture(scope="module")
def plain(matrices: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    results = tmp_path_factory.mktemp("plain")
    done = bench(*command(matrices, data, results, "--run-id", "r"))
    assert done.code == 0, done.said
    return results / "r"


def stopped(
    line: list[str],
    run: Path,
    until: Callable[[], bool],
    how: signal.Signals,
    program: Sequence[str] = ("-m", "bench"),
) -> None:
    """A run in a process of its own, ended by a signal as soon as `until` is true."""
    with interruptible([sys.executable, *program, *line]) as process:
        while process.poll() is None and not until():
            time.sleep(0.01)
        assert process.poll() is None, "it ended before that"
        process.send_signal(how)
        process.communicate(timeout=120)
    assert (run / "cells.parquet").is_file()


def cells(run: Path) -> pd.DataFrame:
    return store.read_table(run, "cells").set_index("option")


def detections(run: Path) -> list[list[Any]]:
    rows = store.read_table(run, "detections").astype({"cell_id": str})
    return rows.sort_values(["cell_id", "image_id"], kind="stable").to_numpy().tolist()


def assert_evaluated(run: Path, plain: Path) -> None:
    """What a run that nobody stopped has found, and nothing left beside it."""
    table, expected = cells(run), cells(plain)
    assert set(table.status) == {"measured"}
    assert set(table.reason_code) == {""}
    pd.testing.assert_frame_equal(table[FIGURES], expected[FIGURES])
    assert detections(run) == detections(plain)
    for name in (parts.FOLDER, unscored.FOLDER, "references", "going-on.lock"):
        assert not (run / name).exists(), name
    assert not list(run.rglob(".*"))


def assert_whole(run: Path, plain: Path) -> None:
    """The tables of a run that nobody stopped, but for times, and nothing left beside them."""
    assert_evaluated(run, plain)
    table = cells(run)
    samples = store.read_table(run, "samples")
    assert samples.groupby(["window", "round"]).cell_id.nunique().eq(2).all()
    launches = store.read_table(run, "launches")
    assert not launches.duplicated(["cell_id", "window", "launch"]).any()
    assert set(map(tuple, launches[["cell_id", "window"]].to_numpy())) == set(
        map(tuple, samples[["cell_id", "window"]].to_numpy())
    )
    assert table.latency_ratio.gt(0).all()


STOPS = [signal.SIGKILL, signal.SIGINT]


def shard_of(run: Path, option: str) -> Callable[[], bool]:
    """Whether a shard of what a cell predicts is on disk, beside the first, which is of what parity has inferred."""
    return lambda: bool(list((run / unscored.FOLDER).glob(f"*{option}*/00001.parquet")))


@pytest.mark.parametrize("how", STOPS)
def test_stopped_in_an_accuracy_pass(
    matrices: Path, data: Path, plain: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """Of a run without latency, whose cells are evaluated one after another."""
    run, line = tmp_path / "r", [*command(matrices, data, tmp_path), "-k", "parity or accuracy"]
    stopped([*line, "--run-id", "r"], run, shard_of(run, "onnx"), how)
    before = cells(run)
    assert before.loc["pytorch"].map50_95 > 0
    assert pd.isna(before.loc["onnx"].map50_95)
    done = bench(*line, "--resume", "r")
    assert done.code == 0, done.said
    assert_evaluated(run, plain)
    # The reference was not measured again.
    for column in ("started", "seconds", "export_seconds", "rss_after_load_bytes", "parity_images"):
        assert cells(run).loc["pytorch"][column] == before.loc["pytorch"][column], column


@pytest.mark.parametrize("how", STOPS)
def test_stopped_among_the_images_of_a_window(
    matrices: Path, data: Path, plain: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """What both have predicted is not inferred again: the new window has fewer samples than there are images."""
    run, line = tmp_path / "r", command(matrices, data, tmp_path)
    both = [shard_of(run, option) for option in ("pytorch", "onnx")]
    stopped([*line, "--run-id", "r"], run, lambda: all(there() for there in both), how)
    before = cells(run)
    assert set(before.reason_code) == {"interrupted"}
    assert before.map50_95.isna().all()
    assert bool(parts.files(run, "detections")) == (how is signal.SIGINT), "to be looked at until the run goes on"
    done = bench(*line, "--resume", "r")
    assert done.code == 0, done.said
    assert_whole(run, plain)
    for column in ("started", "export_seconds", "rss_after_load_bytes", "parity_images"):
        assert cells(run)[column].tolist() == before[column].tolist(), column

    def inferred(directory: Path) -> int:
        return int(store.read_table(directory, "samples").groupby("cell_id", observed=True).size().min())

    assert inferred(plain) > IMAGES - unscored.IMAGES >= inferred(run)


def test_images_that_were_evaluated_are_not_again(matrices: Path, data: Path, tmp_path: Path) -> None:
    """Of the shards that a killed run left, one is made to say that nothing was found: the score is then of that."""
    run, line = tmp_path / "r", command(matrices, data, tmp_path)
    stopped([*line, "--run-id", "r"], run, shard_of(run, "onnx"), signal.SIGKILL)
    cell = cells(run).loc["onnx"]
    left = Unscored(run, str(cell.cell_id), DETECT, str(cell.artifact_sha256))
    there = left.done
    assert len(there) >= unscored.IMAGES
    left.remove()
    with Unscored(run, str(cell.cell_id), DETECT, str(cell.artifact_sha256)) as nothing:
        nothing.add(dict.fromkeys(there, Detections.empty()))
    done = bench(*line, "--resume", "r")
    assert done.code in (0, 1), done.said  # the score may be under what the sweep asks for
    rows = store.read_table(run, "detections")
    of_onnx = set(rows[rows.cell_id.astype(str) == cell.cell_id].image_id)
    every = set(store.read_table(run, "ground_truth").image_id)
    assert not of_onnx & there
    assert of_onnx <= every - there
    assert of_onnx


def test_stopped_in_a_window_and_gone_on_with_twice(matrices: Path, data: Path, plain: Path, tmp_path: Path) -> None:
    run, line = tmp_path / "r", command(matrices, data, tmp_path)
    stopped([*line, "--run-id", "r"], run, lambda: bool(list(run.glob("parts/samples-*.parquet"))), signal.SIGINT)
    before = cells(run)
    assert set(before.latency_stop) == {"interrupted"}
    done = bench(*line, "--resume", "r")
    assert done.code == 0, done.said
    assert_whole(run, plain)
    after = cells(run)
    for column in ("started", "export_seconds", "rss_after_load_bytes", "parity_images"):
        assert after[column].tolist() == before[column].tolist(), column
    # Nothing is left to do: what there is stays to the last sample.
    samples = store.read_table(run, "samples")
    done = bench(*line, "--resume", "r")
    assert done.code == 0, done.said
    pd.testing.assert_frame_equal(cells(run), after)
    pd.testing.assert_frame_equal(store.read_table(run, "samples"), samples)
    assert_whole(run, plain)


def test_what_a_run_cannot_be_gone_on_with(matrices: Path, data: Path, plain: Path, tmp_path: Path) -> None:
    results = shutil.copytree(plain.parent, tmp_path / "results")
    line = command(matrices, data, results)
    files = {path.name: path.read_bytes() for path in (results / "r").iterdir() if path.is_file()}
    done = bench(*line, "--resume", "other")
    assert done.code == 2
    assert "holds no run" in done.said
    done = bench(*line, "--resume", "../results/r")
    assert done.code == 2
    assert "--resume '../results/r': it becomes a folder's name" in done.said
    done = bench(*line, "--resume", "r", "--run-id", "s")
    assert done.code == 2
    assert "cannot be its name" in done.said
    done = bench(*line, "--resume", "r", "--imgsz", "192")
    assert done.code == 2
    assert "other cells than these options ask for" in done.said
    done = bench(*line, "--resume", "r", "--images", "40")
    assert done.code == 2
    assert "others than it was made with: sweep; data set; number of images." in " ".join(done.said.split())
    assert "Results  " not in done.said, "no table of a run that nothing was added to"
    assert {path.name: path.read_bytes() for path in (results / "r").iterdir() if path.is_file()} == files


def test_a_selection_is_part_of_what_a_run_was_made_with(matrices: Path, data: Path, tmp_path: Path) -> None:
    line = command(matrices, data, tmp_path)
    assert bench(*line, "--run-id", "r", "-k", "export").code == 0
    done = bench(*line, "--resume", "r")
    assert done.code == 2
    assert "was measured without footprint: give the selection (-k) that the run was made with" in done.said
    assert bench(*line, "--resume", "r", "-k", "export").code == 0


def test_a_cell_that_was_never_timed_is_skipped_again(matrices: Path, data: Path, plain: Path, tmp_path: Path) -> None:
    """As on a target that is not timed: it is no failure, and no success either."""
    results = shutil.copytree(plain.parent, tmp_path / "results")
    table = store.read_table(results / "r", "cells")
    timed = [name for name in Latency.fills if name != "latency_stop"]
    table = table.astype(dict.fromkeys(timed, object))
    table.loc[table.option == "onnx", timed] = None
    table.loc[table.option == "onnx", "latency_stop"] = "QEMU stands in for the device: no latency is taken."
    store.write_table(results / "r", "cells", pa.Table.from_pandas(table, store.TABLES["cells"], preserve_index=False))
    seen = Counted()
    line = [f"--{name}={value}" for name, value in {"matrices": matrices, "sweep": "tiny", "data": data}.items()]
    code = pytest.main(
        [str(SUITES), f"--rootdir={ROOT}", f"--config-file={SUITES / 'pytest.ini'}", "--disable-plugin-autoload",
         "-p", "bench.plugin", "-p", "no:cacheprovider", "-p", "no:terminal", "--import-mode=importlib", *line,
         f"--results={results}", "--resume=r", "-k", "latency"], plugins=[seen],
    )  # fmt: skip
    assert code == 0
    assert seen.outcomes == {"pytorch": "passed", "onnx": "skipped"}


class Counted:
    """What became of each option's test."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.skipped:
            self.outcomes["onnx" if "onnx" in report.nodeid else "pytorch"] = report.outcome


def test_a_wider_selection_of_a_run_that_ended(matrices: Path, data: Path, tmp_path: Path) -> None:
    """Raw outputs of its reference are not kept for good."""
    line = command(matrices, data, tmp_path)
    bench(*line, "--run-id", "r", "-k", "pytorch and parity")
    assert cells(tmp_path / "r").status.to_dict() == {"pytorch": "measured", "onnx": "skipped"}
    done = bench(*line, "--resume", "r", "-k", "onnx and parity")
    assert done.code == 2
    assert "whose raw outputs were let go when the run had ended" in " ".join(done.said.split())


def test_a_run_that_goes_on_is_one_processs(matrices: Path, data: Path, tmp_path: Path) -> None:
    run, line = tmp_path / "r", command(matrices, data, tmp_path)
    with interruptible([sys.executable, "-m", "bench", *line, "--run-id", "r"]) as process:
        while process.poll() is None and not (run / "cells.parquet").is_file():
            time.sleep(0.01)
        done = bench(*line, "--resume", "r")
        assert done.code == 2
        assert f"another process is measuring the run {run}" in done.said
        assert process.poll() is None, "it is left alone"
        process.kill()
        process.communicate(timeout=120)
    assert (run / "going-on.lock").exists(), "which a killed process leaves behind, and no longer holds"
    done = bench(*line, "--resume", "r", "-k", "export")
    assert done.code == 0, done.said
    assert not (run / "going-on.lock").exists()


def test_a_lock_is_had_once_and_given_back(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(UsageError, match="then give --resume again"), _alone(tmp_path):
        pytest.fail("another has it")
    with pytest.raises(KeyError), _alone(tmp_path):
        raise KeyError
    with _alone(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["going-on.lock"]
    assert not list(tmp_path.iterdir())


def test_a_run_of_several_models_goes_on(matrices: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    models = [shutil.copy(demo.CHECKPOINT, tmp_path / "a" / "best.pt"), changed(tmp_path / "b" / "best.pt", 0.7)]
    run = tmp_path / "r"
    line = [*command(matrices, data, tmp_path), "--images", "24", "--model", ",".join(map(str, models))]
    stopped([*line, "--run-id", "r"], run, lambda: bool(list(run.glob("parts/samples-*.parquet"))), signal.SIGINT)
    before = store.read_table(run, "cells")
    assert set(before.reason_code) == {"interrupted"}
    done = bench(*line, "--resume", "r")
    assert done.code == 0, done.said
    after = store.read_table(run, "cells")
    assert set(after.status) == {"measured"}
    assert set(after.reason_code) == {""}
    assert after[["cell_id", "model_sha256", "started"]].equals(before[["cell_id", "model_sha256", "started"]])
    assert after.groupby("model").model_sha256.nunique().tolist() == [1, 1]
    assert (after.map_delta.abs() < 0.005).all(), "each is compared with its own reference"
    done = bench(*command(matrices, data, tmp_path), "--images", "24", "--resume", "r")
    assert done.code == 2
    assert "other cells than these options ask for (4 and 2, 0 in both)" in done.said


# What stays on disk.


def test_predictions_of_a_part_of_the_images_do_not_stay(tmp_path: Path) -> None:
    """A Ctrl-C stores them of a cell that is not scored yet: were they to stay, the whole ones would be passed over."""
    one, other, references = two_cells()
    run = RunStore(tmp_path, "r", [one, other], references)
    for cell in (one, other):
        run.add_predictions("detections", boxes(cell.cell_id, [0, 1]))
        run.conclude(cell, CellProblem(Reason.INTERRUPTED, "stopped", Status.MEASURED))
    run.update(one, images=2)
    run.arrange_predictions()
    again = RunStore(tmp_path, "r", [one, other], references, Before.read(tmp_path, references, "detections"))
    assert len(store.read_table(tmp_path, "detections")) == 4, "nothing is lost before it is known to be the same run"
    again.go_on()
    again.add_predictions("detections", boxes(one.cell_id, [0, 1]))
    again.add_predictions("detections", boxes(other.cell_id, [0, 1, 2]))
    again.arrange_predictions()
    stored = store.read_table(tmp_path, "detections").astype({"cell_id": str})
    assert stored.groupby("cell_id").size().to_dict() == {one.cell_id: 2, other.cell_id: 3}


def two_cells() -> tuple[Cell, Cell, dict[str, str]]:
    """A reference and what is held against it, with the references of both."""
    read = matrix.load()
    one, other = read.cells("m", read.sweep("smoke"))[:2]
    return one, other, {cell.cell_id: one.cell_id for cell in (one, other)}


@pytest.mark.parametrize("written", [False, True], ids=["killed", "stopped"])
def test_figures_without_a_column_stay(tmp_path: Path, written: bool) -> None:
    """A kill leaves them in parts, a Ctrl-C in the whole table, which does not stay: it would hide what comes."""
    one, other, references = two_cells()
    run = RunStore(tmp_path, "r", [one, other], references)
    area, iou = (Figure(name, 0.5, 0.25, 0.75, "0..1", "higher") for name in ("mask_area", "mask_iou"))
    run.add_figures(one, [area, iou], images=3)
    run.conclude(one, None)
    run.add_figures(other, [area])
    if written:
        run.write_metrics()
    assert metrics.read(tmp_path)[["cell_id", "metric"]].astype(str).to_numpy().tolist() == [
        [one.cell_id, "mask_area"], [one.cell_id, "mask_iou"], [other.cell_id, "mask_area"],
    ]  # fmt: skip
    again = RunStore(tmp_path, "r", [one, other], references, Before.read(tmp_path, references, "detections"))
    again.go_on()
    # That of a cell which is measured from the start is gone; what a kill after this leaves is all that is known.
    again.update(other, map50=0.25)
    expected = [[one.cell_id, "mask_area", 0.5], [one.cell_id, "mask_iou", 0.5], [other.cell_id, "map50", 0.25]]
    assert metrics.read(tmp_path)[["cell_id", "metric", "value"]].astype({"cell_id": str, "metric": str}).to_numpy(
    ).tolist() == expected  # fmt: skip
    again.add_figures(other, [replace(area, value=0.125)])
    again.add_figures(other, [replace(area, value=0.375)])
    killed = metrics.read(tmp_path)
    assert killed[killed.metric == "mask_area"].value.tolist() == [0.5, 0.375], "the last one counts"
    again.write_metrics()
    pd.testing.assert_frame_equal(metrics.read(tmp_path), killed)
    assert not parts.files(tmp_path, "metrics")[1:]


def test_what_is_finished_stays_as_it_is(tmp_path: Path) -> None:
    one, other, references = two_cells()
    run = RunStore(tmp_path, "r", [one, other], references)
    for window, cells_of in enumerate([[one, other], [one]]):
        run.add_turns([turn(cell, window) for cell in cells_of])
    run.update(one, latency_p50_ms=3.0)
    run.conclude(one, None)
    run.conclude(other, CellProblem(Reason.INTERRUPTED, "stopped", Status.MEASURED))
    run.note_disturbed([one.cell_id, other.cell_id])
    halves = [tmp_path / ".cells-x1.tmp", tmp_path / parts.FOLDER / ".samples-00002-x1.tmp"]
    for half in halves:  # of a process that was killed while it wrote
        half.write_bytes(b"PAR1")
    again = RunStore(tmp_path, "r", [one, other], references, Before.read(tmp_path, references, "detections"))
    again.go_on()
    assert not any(half.exists() for half in halves)
    # Of the reference's windows the first stays, which its row is of; with the other cell nobody is held against it.
    assert store.read_table(tmp_path, "samples").groupby(["window", "cell_id"], observed=True).size().to_dict() == {
        (0, one.cell_id): 3
    }
    assert again.next_window == 1
    again.add_turns([turn(cell, 1) for cell in (one, other)])
    again.update_all({cell.cell_id: {"latency_p50_ms": 5.0} for cell in (one, other)})
    again.conclude(one, CellProblem(Reason.CRASHED, "later"))
    again.conclude(other, None)
    again.note_disturbed([one.cell_id])
    stored = store.read_table(tmp_path, "cells").set_index("cell_id")
    assert stored.latency_p50_ms.to_dict() == {one.cell_id: 3.0, other.cell_id: 5.0}
    assert stored.status.tolist() == ["measured", "measured"]
    facts = store.read_table(tmp_path, "environment")
    assert facts[facts.key == "latency_disturbed"].value.tolist() == [json.dumps([one.cell_id])]
    taken = [(one, 0), (one, 1), (other, 1)]
    expected = {(cell.cell_id, window): [turn(cell, window)] for cell, window in taken}
    assert Before.read(tmp_path, references, "detections").turns == expected


def turn(cell: Cell, window: int) -> Turn:
    return Turn(cell.cell_id, window, 0, 0, 0, (1.5, 2.5, 3.5), 1.0, 0.0, 1.0, package_j=0.25)


# What is handed on.


def test_a_submission_is_worth_what_the_run_stores(plain: Path, data: Path, tmp_path: Path) -> None:
    run = shutil.copytree(plain, tmp_path / "r")
    evaluated = store.read_table(run, "ground_truth").image_id.unique().tolist()
    for option in ("pytorch", "onnx"):
        done = bench("export", "submission", run, f"{option}-fp32")
        assert done.code == 0, done.said
        (path,) = run.glob(f"submission-*{option}*.json")
        stats = official_stats(data.parent / "instances.json", path, evaluated)
        row = cells(run).loc[option]
        assert stats == [row[name] for name in ("map50_95", "map50", "map75", "map_small", "map_medium", "map_large")]
        rows = json.loads(path.read_text())
        assert f"{len(rows)} detections" in done.said
        assert {row["category_id"] for row in rows} <= {
            one["id"] for one in json.loads((data.parent / "instances.json").read_text())["categories"]
        }
    assert bench("export", "submission", run, "onnx", "--out", tmp_path / "own.json").code == 0
    assert (tmp_path / "own.json").read_bytes() == next(run.glob("submission-*onnx*.json")).read_bytes()


def test_a_submission_needs_official_ids_and_a_cell(plain: Path, tmp_path: Path) -> None:
    run = shutil.copytree(plain, tmp_path / "r")
    done = bench("export", "submission", run, "tflite")
    assert done.code == 2
    assert "has no cell 'tflite'" in done.said
    facts = store.read_table(run, "environment")
    store.write_table(run, "environment", facts[facts.key != "category_ids"].to_dict("records"))
    done = bench("export", "submission", run, "onnx")
    assert done.code == 2
    assert "without official ids" in done.said


# Memory.


def held(live: list[weakref.ref[Any]]) -> int:
    live[:] = [one for one in live if one() is not None]
    return len(live)


def test_no_more_than_a_shard_of_predictions_is_held(tmp_path: Path) -> None:
    """Counted by the boxes' arrays that are alive, of 500 images."""
    live: list[weakref.ref[Any]] = []
    most = 0
    with Unscored(tmp_path, "m/c", DETECT, "abc") as found:
        for image in range(500):
            boxes = np.full((2, 4), image, np.float32)
            live.append(weakref.ref(boxes))
            found.add({image: Detections(boxes, np.array([0.5, 0.25], np.float32), np.array([1, 0], np.int32))})
            del boxes
            most = max(most, held(live))
        assert most <= unscored.IMAGES
        assert len(found.done) == 500
        every = found.predictions()
    assert [one.boxes.tolist() for one in every.values()] == [[[image] * 4] * 2 for image in range(500)]
    assert every[3].scores.tolist() == [0.5, 0.25]
    assert every[3].categories.tolist() == [1, 0]


def test_predictions_of_another_artifact_are_not_taken_up(tmp_path: Path) -> None:
    with Unscored(tmp_path, "m/c", DETECT, "abc") as found:
        found.add({5: Detections.empty(), 9: Detections.empty()})
    again = Unscored(tmp_path, "m/c", DETECT, "abc")
    assert again.done == {5, 9}
    again.add({9: Detections(np.ones((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))})
    assert [len(one) for one in again.predictions().values()] == [0, 0]
    other = Unscored(tmp_path, "m/c", DETECT, "def")
    assert other.done == set()
    assert not list((tmp_path / unscored.FOLDER).rglob("*.parquet"))


def test_outputs_of_a_reference_are_kept_as_they_are(tmp_path: Path) -> None:
    outputs: list[dict[str, NDArray[np.float32]]] = [
        {"output": np.random.default_rng(place).random((1, 5, 7), np.float32)} for place in range(11)
    ]
    keep(tmp_path, "m/c", outputs)
    again = kept(tmp_path, "m/c")
    assert len(again) == len(outputs)
    assert all(np.array_equal(one["output"], other["output"]) for one, other in zip(again, outputs, strict=True))
    assert kept(tmp_path, "m/d") == []

"""The interface of a task: detection keeps it, and a made-up task with two outputs fits it, through real guests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from bench import store
from bench.grid import matrix
from bench.measure.instruments.parity import KINDS
from bench.reasons import CellProblem, Collector, Reason
from bench.stats import Interval
from bench.store import metrics
from bench.store.metrics import Figure
from bench.store.writing import RunStore
from bench.tasks.datafile import DataFile
from bench.tasks.dataset import Dataset, Image, Labels, read
from bench.tasks.detect.task import DETECT
from bench.tasks.registry import TASKS
from bench.tasks.task import AnyTask, Metric, Output, Outputs, ParityGroup, Score, Task, Tensor, require_outputs
from bench.wall.worker import Worker

GUEST = Path(__file__).parent / "guests" / "two_outputs.py"
OBJECTS = np.dtype([("image_id", "i4"), ("category", "i4"), ("corners", "O")])


@dataclass(frozen=True)
class Crop:
    """How an image was fitted in, for a task that does not letterbox."""

    left: int


@dataclass(frozen=True)
class Found:
    """A prediction of the made-up task."""

    points: Tensor
    area: float


class Outline:
    """Points and a map of where things are: two outputs, as segmentation has, and labels of any length."""

    name = "outline"
    metrics = (
        Metric("plane_iou", "IoU", "0..1", "higher", "overlap of the map with the label"),
        Metric("point_error", "point error", "px", "lower", "mean distance of points"),
    )
    delta = Metric("plane_iou_delta", "Δ IoU", "0..1", "higher", "plane_iou minus that of PyTorch FP32")
    outputs = (Output("points", "(B, 3, 4)", "px"), Output("plane", "(B, 2, height, width)", "0..1"))
    parity = (
        ParityGroup("point", "px", lambda outputs: outputs["points"][:, :2]),
        ParityGroup("plane", "0..1", lambda outputs: outputs["plane"]),
    )
    table = "detections"
    resampled = "image_id"

    def read(
        self,
        path: Path,
        problems: Collector,
        *,
        split: str = "val",
        limit: int | None = None,
        kept: Path | None = None,
    ) -> Dataset | None:
        return read(path, _reader, problems, split=split, limit=limit, kept=kept)

    def prepare(self, image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.uint8], Crop]:
        left = (image.shape[1] - imgsz) // 2
        return image[:imgsz, left : left + imgsz], Crop(left)

    def decode(self, outputs: Outputs, geometry: Crop) -> Found:
        return Found(outputs["points"] + geometry.left, float(outputs["plane"].mean()))

    def pack(self, found: Mapping[int, Found]) -> pa.Table:
        points, areas = [one.points.tolist() for one in found.values()], [one.area for one in found.values()]
        return pa.table({"image_id": list(found), "points": points, "area": areas})

    def unpack(self, rows: pa.Table) -> dict[int, Found]:
        return {row["image_id"]: Found(np.array(row["points"], np.float32), row["area"]) for row in rows.to_pylist()}

    def score(self, cell_id: str, data: Dataset, predictions: Mapping[int, Found]) -> Score:
        areas = [found.area for found in predictions.values()]
        values = {"plane_iou": float(np.mean(areas)), "point_error": None}
        rows = pa.Table.from_pylist([{"cell_id": cell_id, "image_id": image.id} for image in data.images])
        return Score(values, {}, "made up 1.0", rows)

    def ground_truth(self, data: Dataset) -> pa.Table:
        return pa.table({"image_id": [image.id for image in data.images]})

    def difference(self, mine: pd.DataFrame, theirs: pd.DataFrame, truth: pd.DataFrame) -> Interval:
        assert set(mine.image_id) == set(theirs.image_id) == set(truth.image_id)
        return Interval(0.0, None, None)


def _reader(source: DataFile) -> Any:
    """Reads the corners of outlines, of which every object may have another number; the data file says from where."""
    origin = float(source.content.get("origin", 0))

    def labels(path: Path, classes: int, image: Image) -> Labels:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
        rows = np.empty(len(lines), OBJECTS)
        for row, (category, *numbers) in zip(rows, lines, strict=True):
            assert int(category) < classes
            row["image_id"], row["category"] = image.id, int(category)
            row["corners"] = np.array(numbers, float).reshape(-1, 2) * (image.width, image.height) + origin
        return Labels(rows, path.read_bytes())

    return labels


OUTLINE: Task[Crop, Found] = Outline()


def spec(layout: str = "channels_first", **options: Any) -> dict[str, Any]:
    shape = [1, 2, 5, 5]
    return {
        "artifact_dir": "unused",
        "manifest": {
            "outputs": {
                "points": {"layout": "channels_first", "units": "px", "shape": [1, 3, 4]},
                "plane": {"layout": layout, "units": "none", "shape": shape},
            }
        },
        "target": "cpu", "threads": 1, "precision": "fp32", "imgsz": 10, "batch": 1, "options": options,
    }  # fmt: skip


def images(value: float = 0.25, batch: int = 1) -> NDArray[np.float32]:
    return np.full((batch, 3, 10, 10), value, np.float32)


@pytest.fixture
def guest() -> Iterator[Worker]:
    with Worker(Path(sys.executable), GUEST, variables={"PATH": os.environ["PATH"]}) as worker:
        yield worker


@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_two_named_outputs_reach_the_task_in_one_layout_and_order(guest: Worker, layout: str) -> None:
    guest.load(spec(layout))
    outputs = guest.outputs(images(batch=2))
    assert list(outputs) == ["points", "plane"]  # the manifest's order, not the adapter's
    require_outputs(OUTLINE, outputs)
    assert outputs["points"].shape == (2, 3, 4)
    np.testing.assert_allclose(outputs["plane"][1], 0.25 * np.arange(50).reshape(2, 5, 5), rtol=1e-6)
    one = {name: output[0] for name, output in outputs.items()}
    found = OUTLINE.decode(one, OUTLINE.prepare(np.zeros((10, 30, 3), np.uint8), 10)[1])
    assert found.points.max() == 10.25
    assert found.area == pytest.approx(0.25 * 24.5)
    with pytest.raises(CellProblem, match="has the outputs points, plane; one was asked for"):
        guest.infer(images())


@pytest.mark.parametrize(
    ("behaviour", "reason", "said"),
    [
        ("names", Reason.INFERENCE_FAILED, "the outputs ['mask', 'points'] are not those of the manifest"),
        ("missing", Reason.INFERENCE_FAILED, "['points'] are not those of the manifest, ['plane', 'points']"),
        ("shape", Reason.OUTPUT_INVALID, "two_outputs: plane: the output is (1, 2, 4, 5), expected (1, 2, 5, 5)"),
        ("batch", Reason.OUTPUT_INVALID, "plane: the output is (0, 2, 5, 5), expected (1, 2, 5, 5)"),
        ("nan", Reason.OUTPUT_INVALID, "plane: 1 of 50 output values are not finite"),
    ],
)
def test_what_is_wrong_with_the_second_output_is_told_with_its_name(
    guest: Worker, behaviour: str, reason: Reason, said: str
) -> None:
    guest.load(spec(behaviour=behaviour))
    with pytest.raises(CellProblem) as caught:
        guest.outputs(images())
    assert caught.value.reason is reason
    assert said in caught.value.text
    guest.load(spec())
    assert len(guest.outputs(images())) == 2  # and the guest goes on serving


def test_outputs_that_are_not_the_tasks_are_told() -> None:
    for outputs in ({"output": images()}, {"points": images()}, {"points": images(), "plane": images(), "x": images()}):
        with pytest.raises(CellProblem, match="the task outline has points, plane") as caught:
            require_outputs(OUTLINE, outputs)
        assert caught.value.reason is Reason.OUTPUT_INVALID
    require_outputs(OUTLINE, {"plane": images(), "points": images()})


def test_parity_groups_look_at_their_own_output(guest: Worker) -> None:
    guest.load(spec())
    theirs = guest.outputs(images())
    guest.load(spec(shift=0.5))
    mine = guest.outputs(images())
    point, plane = (group.gaps(mine, theirs) for group in OUTLINE.parity)
    assert point.shape == (8,)
    assert not point.any()
    assert plane.shape == (50,)
    np.testing.assert_allclose(plane, 0.5, rtol=1e-5)
    narrow = {**mine, "plane": mine["plane"][:, :1]}  # numpy would stretch it over both channels
    with pytest.raises(CellProblem, match=r"the plane values are \(1, 1, 5, 5\), those of PyTorch FP32 \(1, 2, 5, 5\)"):
        OUTLINE.parity[1].gaps(narrow, theirs)


def test_labels_of_any_length_are_read_as_the_data_file_describes_them(tmp_path: Path) -> None:
    from PIL import Image as Picture

    for number in range(3):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Picture.new("RGB", (20, 10)).save(tmp_path / "images" / f"{number}.png")
        corners = "0.5 0.5 " * (3 + number)
        (tmp_path / "labels" / f"{number}.txt").write_text(f"0 {corners}\n", encoding="utf-8")
    (tmp_path / "data.yaml").write_text("val: images\nnames: [thing]\norigin: 1\n", encoding="utf-8")
    problems = Collector()
    data = OUTLINE.read(tmp_path / "data.yaml", problems)
    assert data is not None
    assert problems.found == ()
    assert [len(corners) for corners in data.boxes["corners"]] == [3, 4, 5]
    assert data.boxes["corners"][0].tolist() == [[11.0, 6.0]] * 3
    assert [len(corners) for corners in data.subset(2).boxes["corners"]] == [3, 4]


def test_figures_without_a_column_are_kept_in_the_long_table(tmp_path: Path) -> None:
    read = matrix.load()
    cell = read.cells("m", read.sweep("smoke"))[0]
    run = RunStore(tmp_path, "r", [cell], {cell.cell_id: cell.cell_id})
    score = [Figure(one.name, 0.5, None, None, one.unit, one.direction) for one in OUTLINE.metrics]
    delta = [Figure("plane_iou_delta", -0.1, -0.2, 0.0, "0..1", "higher")]
    known = [Figure("map_delta", -0.3, -0.4, -0.2, "0..1", "higher"), Figure("map50", None, None, None, "", "higher")]
    run.add_figures(cell, [*score, *delta, *known], images=3)
    run.write_metrics()
    row = store.read_table(tmp_path, "cells").iloc[0]
    assert (row.map_delta, row.map_delta_low, row.map_delta_high, row.images) == (-0.3, -0.4, -0.2, 3)
    long = metrics.read(tmp_path).set_index("metric")
    assert long.index.tolist() == ["map_delta", "plane_iou", "point_error", "plane_iou_delta"]
    assert list(long.loc["plane_iou_delta", ["low", "high"]]) == [-0.2, 0.0]
    assert list(long.loc["point_error", ["unit", "direction"]]) == ["px", "lower"]


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_a_task_agrees_with_the_store(task: AnyTask) -> None:
    """Where a figure of a task has a column, both say the same of it; its table can be resampled."""
    columns = {field.name: field for field in store.TABLES["cells"]}
    parity = [
        Metric(f"parity_{group.name}_{kind}", "", group.unit, "lower", "") for group in task.parity for kind in KINDS
    ]
    for metric in (*task.metrics, task.delta, *parity):
        if metric.name in columns:
            about = columns[metric.name].metadata
            assert about[b"unit"].decode() == metric.unit, metric.name
            assert about[b"better"].decode() == metric.direction, metric.name
            assert about[b"meaning"].decode().startswith(metric.meaning), metric.name
    assert task.metrics[0].direction == task.delta.direction == "higher"
    assert {"cell_id", task.resampled} <= set(store.TABLES[task.table].names)
    assert task.resampled in store.TABLES["ground_truth"].names
    names = [metric.name for metric in (*task.metrics, task.delta)]
    assert len(set(names)) == len(names)


def test_detection_fills_every_column_of_accuracy_and_parity() -> None:
    figures = {metric.name for metric in (*DETECT.metrics, DETECT.delta)}
    figures |= {f"parity_{group.name}_{kind}" for group in DETECT.parity for kind in KINDS}
    columns = {field.name for field in store.TABLES["cells"] if b"better" in field.metadata}
    assert figures == {name for name in columns if name.startswith(("map", "parity"))}

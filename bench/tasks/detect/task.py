"""Detection as a task: boxes with a class and a score, judged by COCO mAP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bench.guest.server import OUTPUT
from bench.reasons import Collector
from bench.stats import Interval
from bench.tasks import dataset
from bench.tasks.dataset import Dataset
from bench.tasks.detect import score as coco
from bench.tasks.detect.boxes import Detections, decode
from bench.tasks.detect.labels import of_instances, reader
from bench.tasks.detect.packing import packed, unpacked
from bench.tasks.detect.resampling import bootstrap_delta
from bench.tasks.letterbox import Letterbox, fitted
from bench.tasks.task import Metric, Output, Outputs, ParityGroup, Score

_SIDES = 4


class Detect:
    """The task `detect` of Ultralytics."""

    name = "detect"
    metrics = (
        Metric("map50_95", "mAP50-95", "0..1", "higher", "COCO mAP over IoU 0.50:0.95, all sizes"),
        Metric("map50", "mAP50", "0..1", "higher", "COCO mAP at IoU 0.50"),
        Metric("map75", "mAP75", "0..1", "higher", "COCO mAP at IoU 0.75"),
        Metric("map_small", "mAP small", "0..1", "higher", "mAP50-95 of objects under 32x32 px"),
        Metric("map_medium", "mAP medium", "0..1", "higher", "mAP50-95 of objects from 32x32 to 96x96 px"),
        Metric("map_large", "mAP large", "0..1", "higher", "mAP50-95 of objects over 96x96 px"),
    )
    delta = Metric("map_delta", "Δ mAP", "0..1", "higher", "map50_95 minus that of PyTorch FP32 on the same images")
    outputs = (Output(OUTPUT, "(B, 4 + classes, anchors)", "box centre, width and height in px; class scores 0..1"),)
    parity = (
        ParityGroup("box", "px", lambda outputs: outputs[OUTPUT][:, :_SIDES]),
        ParityGroup("score", "0..1", lambda outputs: outputs[OUTPUT][:, _SIDES:]),
    )
    table = "detections"
    resampled = "image_id"

    def load(self, path: Path, split: str = "val", limit: int | None = None) -> Dataset:
        """Images and boxes of one split of a data file; see `bench.tasks.dataset.load`."""
        return dataset.load(path, reader, split, limit, of_instances)

    def read(
        self,
        path: Path,
        problems: Collector,
        *,
        split: str = "val",
        limit: int | None = None,
        kept: Path | None = None,
    ) -> Dataset | None:
        """The same with all that is wrong as `problems`; see `bench.tasks.dataset.read`."""
        return dataset.read(path, reader, problems, split=split, limit=limit, kept=kept, official=of_instances)

    def prepare(self, image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.uint8], Letterbox]:
        """Letterbox an image (H, W, 3) BGR into (imgsz, imgsz, 3) RGB."""
        return fitted(image, imgsz)

    def decode(self, outputs: Outputs, geometry: Letterbox) -> Detections:
        """Boxes of one image from its raw output (4 + classes, anchors)."""
        return decode(outputs[OUTPUT], geometry)

    def pack(self, found: Mapping[int, Detections]) -> pa.Table:
        """Detections by image id as rows, one an image."""
        return packed(found)

    def unpack(self, rows: pa.Table) -> dict[int, Detections]:
        """The detections that `pack` was given."""
        return unpacked(rows)

    def score(self, cell_id: str, data: Dataset, predictions: Mapping[int, Detections]) -> Score:
        """COCO mAP of detections, keyed by image id."""
        accuracy = coco.evaluate(data, predictions)
        values = {
            "map50_95": accuracy.map50_95,
            "map50": accuracy.map50,
            "map75": accuracy.map75,
            "map_small": accuracy.small,
            "map_medium": accuracy.medium,
            "map_large": accuracy.large,
        }
        rows = coco.detection_table(cell_id, predictions, accuracy)
        return Score(values, accuracy.per_class, accuracy.evaluator, rows)

    def ground_truth(self, data: Dataset) -> pa.Table:
        """Objects per image and class."""
        return coco.ground_truth_table(data)

    def difference(self, mine: pd.DataFrame, theirs: pd.DataFrame, truth: pd.DataFrame) -> Interval:
        """Difference in mAP50-95 with its paired bootstrap interval over images."""
        return bootstrap_delta(mine, theirs, truth)


DETECT = Detect()
load = DETECT.load

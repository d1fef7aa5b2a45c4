"""How long the core's own hot paths take: `python -m pytest tests/benchmarks`; compare with `--benchmark-compare`.

No time is asserted here, as it belongs to the machine.  Sizes are those of COCO: 640 px input, 80 classes, 8400
anchors; 128 images with 170 detections each.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from bench.store import read_table, write_table
from bench.tasks.datafile import DataFile
from bench.tasks.dataset import Dataset, Image
from bench.tasks.detect.boxes import Detections, decode
from bench.tasks.detect.labels import BOX_DTYPE
from bench.tasks.detect.resampling import bootstrap_delta
from bench.tasks.detect.score import Accuracy, detection_table, evaluate, ground_truth_table
from bench.tasks.letterbox import letterbox

IMAGES, CLASSES, OBJECTS, SPURIOUS = 128, 80, 7, 163


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 255, (427, 640, 3), np.uint8)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    boxes = np.empty(IMAGES * OBJECTS, BOX_DTYPE)
    boxes["image_id"] = np.repeat(np.arange(IMAGES), OBJECTS)
    boxes["category"] = rng.geometric(0.05, len(boxes)) % CLASSES
    for axis in "xywh":
        boxes[axis] = rng.uniform(10, 200, len(boxes))
    boxes["area"], boxes["crowd"] = boxes["w"] * boxes["h"], False
    images = tuple(Image(index, Path(f"{index}.jpg"), 640, 480) for index in range(IMAGES))
    names = {index: f"class {index}" for index in range(CLASSES)}
    return Dataset("synthetic", "val", names, images, boxes, "", DataFile(Path("synthetic.yaml"), {}, {}))


@pytest.fixture(scope="module")
def found(dataset: Dataset) -> dict[int, Detections]:
    rng = np.random.default_rng(1)
    result = {}
    for image in dataset.images:
        objects = dataset.boxes[dataset.boxes["image_id"] == image.id]
        true = np.stack([objects[axis] for axis in "xywh"], axis=1) + rng.normal(0, 4, (len(objects), 4))
        boxes = np.vstack([true, rng.uniform(10, 200, (SPURIOUS, 4))]).astype(np.float32)
        scores = np.concatenate([rng.random(len(true)), rng.random(SPURIOUS) ** 6]).astype(np.float32)
        categories = np.concatenate([objects["category"], rng.integers(0, CLASSES, SPURIOUS)]).astype(np.int32)
        order = np.argsort(-scores)
        result[image.id] = Detections(boxes[order], scores[order], categories[order])
    return result


@pytest.fixture(scope="module")
def accuracy(dataset: Dataset, found: dict[int, Detections]) -> Accuracy:
    return evaluate(dataset, found)


def test_letterbox(benchmark: BenchmarkFixture, photo: NDArray[np.uint8]) -> None:
    tensor, _ = benchmark(letterbox, photo, 640)
    assert tensor.shape == (1, 3, 640, 640)


@pytest.mark.parametrize("candidates", [800, 3500, 60_000])
def test_decode_and_suppress(benchmark: BenchmarkFixture, photo: NDArray[np.uint8], candidates: int) -> None:
    """800 candidates are usual for COCO at confidence 0.001, 3500 a crowded image, 60 000 a model gone wrong."""
    rng = np.random.default_rng(2)
    raw = np.zeros((4 + CLASSES, 8400), np.float32)
    raw[:2] = rng.uniform(0, 640, (2, 8400))
    raw[2:4] = rng.uniform(8, 300, (2, 8400))
    chosen = rng.choice(CLASSES * 8400, candidates, replace=False)
    raw[4:].reshape(-1)[chosen] = rng.uniform(0.0011, 0.9, candidates)
    detections = benchmark(decode, raw, letterbox(photo, 640)[1])
    assert len(detections) == 300


def test_evaluate(benchmark: BenchmarkFixture, dataset: Dataset, found: dict[int, Detections]) -> None:
    assert benchmark(evaluate, dataset, found).map50_95 > 0.1


def test_bootstrap(
    benchmark: BenchmarkFixture, dataset: Dataset, found: dict[int, Detections], accuracy: Accuracy
) -> None:
    table = detection_table("cell", found, accuracy).to_pandas()
    objects = ground_truth_table(dataset).to_pandas()
    arguments = (table, table, objects)
    # pytest-benchmark has no annotations.
    interval = benchmark.pedantic(bootstrap_delta, arguments, rounds=3, iterations=1)  # type: ignore[no-untyped-call]
    assert interval.value == 0.0


def test_write_detections(
    benchmark: BenchmarkFixture, tmp_path: Path, found: dict[int, Detections], accuracy: Accuracy
) -> None:
    table = detection_table("cell", found, accuracy)
    benchmark(write_table, tmp_path, "detections", table)
    assert len(read_table(tmp_path, "detections")) == IMAGES * (OBJECTS + SPURIOUS)

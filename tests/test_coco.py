"""COCO accuracy and its bootstrap: two evaluators against each other, and the bootstrap against the evaluator."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bench.store import read_table, write_table
from bench.tasks.datafile import DataFile
from bench.tasks.dataset import Dataset, Image
from bench.tasks.detect.boxes import Detections
from bench.tasks.detect.labels import BOX_DTYPE
from bench.tasks.detect.resampling import RECALLS, _Curves, _Objects, _reached, bootstrap_delta
from bench.tasks.detect.score import Accuracy, detection_table, evaluate, ground_truth_table
from bench.tasks.detect.task import load

COCO128 = Path(os.environ.get("BENCH_COCO128", Path(__file__).parents[2] / "shared/assets/coco128")) / "coco128.yaml"


def weighted_map(detections: pd.DataFrame, ground_truth: pd.DataFrame, weights: dict[int, int] | None = None) -> float:
    """The mAP50-95 that the bootstrap takes of one resample, each image counting `weights[image_id]` times."""
    objects = _Objects.build(ground_truth)
    column = np.array([1.0 if weights is None else weights.get(int(image), 1) for image in objects.images])
    return float(_Curves.build(detections, objects).map(column[np.newaxis])[0])


@pytest.mark.parametrize("objects", [1, 3, 29, 100, 254, 997])
def test_a_recall_reaches_what_a_search_finds(objects: int) -> None:
    for recall in (np.arange(2 * objects) / objects, RECALLS, np.nextafter(RECALLS, 0), np.nextafter(RECALLS, 2)):
        assert _reached(recall).tolist() == np.searchsorted(RECALLS, recall, side="right").tolist()


def make_dataset(boxes: list[tuple[int, int, float, float, float, float]], images: int, classes: int) -> Dataset:
    source = DataFile(Path("synthetic.yaml"), {}, {})
    return Dataset(
        name="synthetic",
        split="val",
        names={index: f"class {index}" for index in range(classes)},
        images=tuple(Image(index, Path(f"{index}.png"), 640, 480) for index in range(images)),
        boxes=np.array([(*box, box[4] * box[5], False) for box in boxes], BOX_DTYPE),
        sha256="",
        source=source,
    )


def make_detections(rows: list[tuple[float, float, float, float, float, int]]) -> Detections:
    """From (x, y, w, h, score, class), sorted best first."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    table = table[np.argsort(-table[:, 4], kind="stable")]
    return Detections(table[:, :4].astype(np.float32), table[:, 4].astype(np.float32), table[:, 5].astype(np.int32))


def random_set(seed: int, images: int = 12, classes: int = 5, objects: int = 6) -> Dataset:
    rng = np.random.default_rng(seed)
    boxes = []
    for image in range(images):
        for _ in range(rng.integers(0, objects + 1)):
            w, h = np.exp(rng.uniform(np.log(6), np.log(220), 2))
            # The last class never has objects, as in a real set with rare classes.
            category = int(rng.integers(classes - 1))
            boxes.append((image, category, rng.uniform(0, 640 - w), rng.uniform(0, 480 - h), w, h))
    return make_dataset(boxes, images, classes)


def noisy_detections(dataset: Dataset, seed: int, noise: float = 0.08, spurious: int = 25) -> dict[int, Detections]:
    """Objects found with shifted boxes, some twice, some as another class, among spurious boxes; scores with ties."""
    rng = np.random.default_rng(seed)
    rows: dict[int, list[tuple[float, float, float, float, float, int]]] = {image.id: [] for image in dataset.images}
    classes = len(dataset.names)
    for image_id, category, x, y, w, h, *_ in dataset.boxes.tolist():
        for _ in range(rng.integers(0, 3)):
            shift = rng.normal(0, noise, 4) * (w, h, w, h)
            found = category if rng.random() < 0.8 else int(rng.integers(classes))
            rows[image_id].append(
                (x + shift[0], y + shift[1], max(w + shift[2], 1), max(h + shift[3], 1), rng.random(), found)
            )
    for image in dataset.images:
        for _ in range(rng.integers(0, spurious + 1)):
            box = (*rng.uniform(0, 400, 2), *rng.uniform(4, 200, 2))
            rows[image.id].append((*box, rng.random() ** 3, int(rng.integers(classes))))
    return {
        image: make_detections([(*row[:4], round(row[4], 2), row[5]) for row in found]) for image, found in rows.items()
    }


def assert_same(one: Accuracy, other: Accuracy) -> None:
    for name in ("map50_95", "map50", "map75", "small", "medium", "large"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-9), name
    assert one.per_class == pytest.approx(other.per_class, abs=1e-9)
    assert one.matched.keys() == other.matched.keys()
    assert all(np.array_equal(one.matched[image], other.matched[image]) for image in one.matched)


# Worked out by hand.


def test_a_perfect_detection_and_a_missed_object() -> None:
    dataset = make_dataset([(0, 0, 10, 10, 50, 50), (0, 1, 200, 200, 20, 20), (1, 0, 10, 10, 100, 100)], 2, 3)
    found = {0: make_detections([(10, 10, 50, 50, 0.9, 0)]), 1: Detections.empty()}
    accuracy = evaluate(dataset, found)
    # Class 0: precision 1 up to recall 1/2, that is at 51 of the 101 recalls; class 1: nothing found.
    assert accuracy.per_class == pytest.approx({"class 0": 51 / 101, "class 1": 0.0})
    assert accuracy.map50_95 == accuracy.map50 == accuracy.map75 == pytest.approx(51 / 202)
    assert accuracy.small == 0.0
    assert accuracy.medium == pytest.approx(1.0)
    assert accuracy.large == 0.0
    assert accuracy.matched[0].tolist() == [0b11_1111_1111]
    assert accuracy.matched[1].tolist() == []
    assert accuracy.evaluator.startswith("hotcoco 1.")


def test_match_bits_follow_the_overlap() -> None:
    # A box of 100 x 100 px found 16 px to the right: IoU = 84 / 116 = 0.724, so true at 0.50 to 0.70 and not at 0.75.
    dataset = make_dataset([(0, 0, 0, 0, 100, 100)], 1, 1)
    accuracy = evaluate(dataset, {0: make_detections([(300, 300, 9, 9, 0.95, 0), (16, 0, 100, 100, 0.9, 0)])})
    assert accuracy.matched[0].tolist() == [0, 0b1_1111]
    # One false positive before it: precision 1/2 everywhere.
    assert accuracy.map50 == pytest.approx(0.5)
    assert accuracy.map75 == 0.0
    assert accuracy.map50_95 == pytest.approx(0.5 * 5 / 10)


def test_only_the_best_hundred_of_a_class_and_image_count() -> None:
    dataset = make_dataset([(0, 0, 0, 0, 100, 100), (0, 1, 0, 0, 100, 100)], 1, 2)
    crowd = [(300.0, 300.0, 50.0, 50.0, 0.9 - index / 1000, 0) for index in range(100)]
    found = {0: make_detections([*crowd, (0, 0, 100, 100, 0.5, 0), (0, 0, 100, 100, 0.1, 1)])}
    accuracy = evaluate(dataset, found)
    assert accuracy.per_class == pytest.approx({"class 0": 0.0, "class 1": 1.0})
    assert_same(accuracy, evaluate(dataset, found, "pycocotools"))
    table = detection_table("cell", found, accuracy).to_pandas()
    assert weighted_map(table, ground_truth_table(dataset).to_pandas()) == pytest.approx(0.5, abs=1e-12)
    # The 101st detection would be a true positive if it counted: the bootstrap has to leave it out as well.
    table.loc[table["score"] == np.float32(0.5), "matched"] = 1023
    assert weighted_map(table, ground_truth_table(dataset).to_pandas()) == pytest.approx(0.5, abs=1e-12)


# Two evaluators.


@pytest.mark.parametrize("seed", range(8))
def test_both_evaluators_and_the_stored_tables_agree(seed: int) -> None:
    dataset = random_set(seed)
    found = noisy_detections(dataset, seed)
    accuracy = evaluate(dataset, found)
    assert accuracy.map50_95 is not None
    assert 0.01 < accuracy.map50_95 < 0.9
    assert "class 4" not in accuracy.per_class
    assert_same(accuracy, evaluate(dataset, found, "pycocotools"))
    table = detection_table("cell", found, accuracy).to_pandas()
    assert weighted_map(table, ground_truth_table(dataset).to_pandas()) == pytest.approx(accuracy.map50_95, abs=1e-9)


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_no_detections_is_zero_and_no_objects_is_none(evaluator: str) -> None:
    dataset = random_set(1)
    nothing = {image.id: Detections.empty() for image in dataset.images}
    accuracy = evaluate(dataset, nothing, evaluator)  # type: ignore[arg-type]
    assert accuracy.map50_95 == accuracy.map50 == 0.0
    assert set(accuracy.per_class.values()) == {0.0}
    background = make_dataset([], len(dataset.images), 5)
    accuracy = evaluate(background, noisy_detections(dataset, 1), evaluator)  # type: ignore[arg-type]
    assert accuracy.map50_95 is accuracy.map50 is accuracy.small is None
    assert accuracy.per_class == {}
    assert not np.concatenate(list(accuracy.matched.values())).any()
    assert evaluate(background, nothing, evaluator).large is None  # type: ignore[arg-type]


@pytest.mark.skipif(not COCO128.is_file(), reason="no COCO images here; name their folder in BENCH_COCO128")
def test_both_evaluators_agree_on_real_objects() -> None:
    dataset = load(COCO128)
    found = noisy_detections(dataset, 0, spurious=60)
    accuracy = evaluate(dataset, found)
    assert accuracy.map50_95 is not None
    assert accuracy.map50_95 > 0.05
    assert_same(accuracy, evaluate(dataset, found, "pycocotools"))
    table = detection_table("cell", found, accuracy).to_pandas()
    assert weighted_map(table, ground_truth_table(dataset).to_pandas()) == pytest.approx(accuracy.map50_95, abs=1e-9)


def test_what_does_not_belong_together_is_refused() -> None:
    dataset = random_set(2)
    found = noisy_detections(dataset, 2)
    with pytest.raises(ValueError, match="first in image id 0"):
        evaluate(dataset, {image: one for image, one in found.items() if image})
    with pytest.raises(ValueError, match="first in image id 99"):
        evaluate(dataset, {**found, 99: Detections.empty()})
    with pytest.raises(ValueError, match="class 7 is not one of the 5"):
        evaluate(dataset, {**found, 3: make_detections([(0, 0, 9, 9, 0.5, 7)])})
    with pytest.raises(ValueError, match="evaluator must be one of"):
        evaluate(dataset, found, "guess")  # type: ignore[arg-type]


# The stored tables.


def test_tables_go_through_the_store(tmp_path: Path) -> None:
    dataset = make_dataset([(0, 1, 0, 0, 10, 10), (0, 1, 20, 20, 10, 10), (2, 0, 0, 0, 10, 10)], 3, 2)
    found = {
        0: make_detections([(0, 0, 10, 10, 0.5, 1)]),
        1: Detections.empty(),
        2: make_detections([(1, 2, 3, 4, 0.25, 0)]),
    }
    accuracy = evaluate(dataset, found)
    write_table(tmp_path, "detections", detection_table("cell", found, accuracy))
    write_table(tmp_path, "ground_truth", ground_truth_table(dataset))
    stored = read_table(tmp_path, "detections")
    assert stored.drop(columns="cell_id").to_numpy().tolist() == [
        [0, 1, 0.5, 0, 0, 10, 10, 1023, 0],
        [2, 0, 0.25, 1, 2, 3, 4, 0, 0],
    ]
    assert stored["cell_id"].tolist() == ["cell"] * 2
    assert read_table(tmp_path, "ground_truth").to_numpy().tolist() == [
        [0, "0.png", 1, 2],
        [1, "1.png", -1, 0],
        [2, "2.png", 0, 1],
    ]


# The bootstrap.


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, database=None)
def test_a_weight_means_that_many_copies_of_the_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dataset = random_set(seed, images=6)
    weights = {image.id: int(rng.integers(0, 4)) for image in dataset.images}
    found = {
        # Equal scores in different images may be ordered differently once images are copied: make them unequal.
        image: Detections(
            one.boxes,
            (rng.permutation(2**16)[: len(one)] * 6 + image).astype(np.float32) / np.float32(2**19),
            one.categories,
        )
        for image, one in noisy_detections(dataset, seed).items()
    }
    copies = [image for image, weight in weights.items() for _ in range(weight)]
    copied = make_dataset(
        [(new, *box[1:6]) for new, old in enumerate(copies) for box in dataset.boxes.tolist() if box[0] == old],
        len(copies),
        5,
    )
    table = detection_table("cell", found, evaluate(dataset, found)).to_pandas()
    objects = ground_truth_table(dataset).to_pandas()
    assume(len(copied.boxes) > 0)
    expected = evaluate(copied, {new: found[old] for new, old in enumerate(copies)}).map50_95
    assert weighted_map(table, objects, weights) == pytest.approx(expected, abs=1e-9)


def test_the_interval_is_the_one_of_resampled_evaluations() -> None:
    dataset = random_set(5, images=10)
    objects = ground_truth_table(dataset).to_pandas()
    tables = [
        detection_table("cell", found, evaluate(dataset, found)).to_pandas()
        for found in (noisy_detections(dataset, 1, noise=0.12), noisy_detections(dataset, 2, noise=0.03))
    ]
    interval = bootstrap_delta(tables[0], tables[1], objects, n=300, seed=3)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < interval.value < interval.high
    draws = np.random.default_rng(3).multinomial(10, [0.1] * 10, size=300)
    deltas = [
        weighted_map(tables[0], objects, dict(enumerate(draw.tolist())))
        - weighted_map(tables[1], objects, dict(enumerate(draw.tolist())))
        for draw in draws
    ]
    assert [interval.low, interval.high] == pytest.approx(np.nanquantile(deltas, [0.025, 0.975]).tolist(), abs=1e-9)
    other = bootstrap_delta(tables[1], tables[0], objects, n=300, seed=3)
    assert (other.value, other.low, other.high) == pytest.approx(
        (-interval.value, -interval.high, -interval.low), abs=1e-9
    )


def test_a_cell_does_not_differ_from_itself() -> None:
    dataset = random_set(6)
    found = noisy_detections(dataset, 6)
    table = detection_table("cell", found, evaluate(dataset, found)).to_pandas()
    interval = bootstrap_delta(table, table, ground_truth_table(dataset).to_pandas(), n=50)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_no_detections_at_all_against_some() -> None:
    dataset = random_set(7)
    objects = ground_truth_table(dataset).to_pandas()
    found = noisy_detections(dataset, 7)
    nothing = {image.id: Detections.empty() for image in dataset.images}
    table = detection_table("cell", found, evaluate(dataset, found)).to_pandas()
    empty = detection_table("none", nothing, evaluate(dataset, nothing)).to_pandas()
    interval = bootstrap_delta(empty, table, objects, n=100)
    assert interval.value == pytest.approx(-weighted_map(table, objects))
    assert interval.high is not None
    assert interval.high < 0


def test_bootstrap_refuses_what_it_cannot_answer() -> None:
    dataset = random_set(8)
    objects = ground_truth_table(dataset).to_pandas()
    found = noisy_detections(dataset, 8)
    table = detection_table("cell", found, evaluate(dataset, found)).to_pandas()
    with pytest.raises(ValueError, match="no image has objects"):
        bootstrap_delta(table, table, objects[objects["category_id"] < 0])
    with pytest.raises(ValueError, match="image id 0, which the ground truth does not hold"):
        bootstrap_delta(table, table, objects[objects["image_id"] > 0])
    with pytest.raises(ValueError, match="n must be at least 1"):
        bootstrap_delta(table, table, objects, n=0)
    last = int(objects.loc[objects["objects"] > 0, "image_id"].max())
    one = bootstrap_delta(
        table[table["image_id"] == last], table[table["image_id"] == last], objects[objects["image_id"] == last]
    )
    assert (one.value, one.low, one.high) == (0.0, None, None)

"""Letterbox, decoding and suppression against values worked out by hand and against a plain reference."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.tasks.detect.boxes import Detections, decode, draw
from bench.tasks.letterbox import Letterbox, letterbox


def head_output(seed: int, *, classes: int = 80, anchors: int = 8400, objects: int = 30) -> NDArray[np.float32]:
    """Raw output as a detection head gives it: clusters of anchors agree on an object, the rest is faint noise."""
    rng = np.random.default_rng(seed)
    raw = np.empty((4 + classes, anchors), np.float32)
    raw[:2] = rng.uniform(0, 640, (2, anchors))
    raw[2:4] = rng.uniform(8, 300, (2, anchors))
    raw[4:] = rng.exponential(2e-4, (classes, anchors))
    for _ in range(objects):
        cluster = rng.choice(anchors, rng.integers(5, 40), replace=False)
        box = np.array([*rng.uniform(50, 590, 2), *rng.uniform(10, 250, 2)])
        raw[:4, cluster] = box[:, np.newaxis] + rng.normal(0, 6, (4, len(cluster)))
        for category in rng.choice(classes, 2, replace=False):
            raw[4 + category, cluster] = rng.beta(1, 2, len(cluster))
    raw[2:4] = np.maximum(raw[2:4], 1)
    return raw


def plain_nms(
    raw: NDArray[np.float32], conf: float, iou: float, max_det: int, max_candidates: int
) -> list[list[float]]:
    """Greedy suppression as its definition reads: rows of x1, y1, x2, y2, score, class in network px, best first."""
    anchors, categories = np.nonzero(np.greater(raw[4:].T, np.float32(conf)))
    candidates = [(-float(raw[4 + c, a]), int(a), int(c)) for a, c in zip(anchors, categories, strict=True)]
    kept: list[list[float]] = []
    for negative, anchor, category in sorted(candidates)[:max_candidates]:
        cx, cy, w, h = (float(value) for value in raw[:4, anchor])
        box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        if all(other[5] != category or plain_iou(box, other) <= iou for other in kept):
            kept.append([*box, -negative, category])
        if len(kept) == max_det:
            break
    return kept


def plain_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height)


IDENTITY = Letterbox(scale=1.0, left=0, top=0, width=640, height=640)


def raw_from(rows: list[tuple[float, float, float, float, list[float]]]) -> NDArray[np.float32]:
    """Raw output from (x, y, w, h, class scores) rows, x and y being the left and top edge."""
    return np.array([[x + w / 2, y + h / 2, w, h, *scores] for x, y, w, h, scores in rows], np.float32).T


@pytest.mark.parametrize(
    ("width", "height", "imgsz", "resized", "left", "top"),
    [
        (640, 480, 640, (640, 480), 0, 80),
        (640, 427, 640, (640, 427), 0, 106),  # 213 px of padding: 106 above, 107 below
        (480, 641, 640, (479, 640), 80, 0),  # 161 px of padding: 80 left, 81 right
        (320, 240, 640, (640, 480), 0, 80),  # scaled up
        (3000, 1, 64, (64, 1), 0, 31),  # a thin image keeps one pixel
        (333, 500, 320, (213, 320), 53, 0),
    ],
)
def test_letterbox_geometry(width: int, height: int, imgsz: int, resized: tuple[int, int], left: int, top: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    tensor, box = letterbox(image, imgsz)
    assert (box.resized, box.left, box.top, box.width, box.height) == (resized, left, top, width, height)
    assert tensor.shape == (1, 3, imgsz, imgsz)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    inside = np.zeros((imgsz, imgsz), bool)
    inside[top : top + resized[1], left : left + resized[0]] = True
    assert np.all(tensor[0][:, ~inside] == np.float32(114 / 255))
    expected = cv2.resize(image, resized, interpolation=cv2.INTER_LINEAR) if resized != (width, height) else image
    shown = tensor[0][:, inside].reshape(3, *expected.shape[:2]).transpose(1, 2, 0)[..., ::-1]
    assert np.array_equal(np.round(shown * 255).astype(np.uint8), expected)


def test_letterbox_turns_bgr_into_rgb() -> None:
    blue = np.zeros((32, 32, 3), np.uint8)
    blue[..., 0] = 255
    tensor, _ = letterbox(blue, 32)
    assert tensor[0].mean(axis=(1, 2)).tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_letterbox_refuses_other_arrays(image: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="must be uint8"):
        letterbox(image, 32)
    with pytest.raises(ValueError, match="at least 1 px"):
        letterbox(np.zeros((8, 8, 3), np.uint8), 0)


@given(
    width=st.integers(10, 900),
    height=st.integers(10, 900),
    imgsz=st.sampled_from([32, 320, 640]),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
@settings(max_examples=150, deadline=None, database=None)
def test_a_box_survives_letterbox_and_decode(
    width: int, height: int, imgsz: int, corners: tuple[float, float, float, float]
) -> None:
    _, box = letterbox(np.zeros((height, width, 3), np.uint8), imgsz)
    x1, x2 = sorted((corners[0] * width, corners[1] * width))
    y1, y2 = sorted((corners[2] * height, corners[3] * height))
    gain_x, gain_y = box.resized[0] / width, box.resized[1] / height
    raw = raw_from([(x1 * gain_x + box.left, y1 * gain_y + box.top, (x2 - x1) * gain_x, (y2 - y1) * gain_y, [0.5])])
    found = decode(raw, box)
    x, y, w, h = found.boxes[0].tolist()
    # Half a step of rounding, and float32 at the size of the network input seen through the scale.
    tolerance = 1 / 64 + 1e-3 * max(1.0, 1 / min(gain_x, gain_y))
    assert np.allclose([x, y, x + w, y + h], [x1, y1, x2, y2], atol=tolerance, rtol=0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("conf", "max_det", "max_candidates"), [(0.001, 300, 30000), (0.0006, 2000, 5000), (0.25, 5, 50)]
)
def test_suppression_equals_the_plain_definition(seed: int, conf: float, max_det: int, max_candidates: int) -> None:
    raw = head_output(seed, anchors=2100)
    expected = np.array(plain_nms(raw, conf, 0.7, max_det, max_candidates))
    found = decode(raw, IDENTITY, conf=conf, iou=0.7, max_det=max_det, max_candidates=max_candidates)
    assert len(found) == len(expected) > 4
    assert np.array_equal(found.categories, expected[:, 5])
    assert np.allclose(found.scores, expected[:, 4], atol=2**-17, rtol=0)
    edges = np.hstack([found.boxes[:, :2], found.boxes[:, :2] + found.boxes[:, 2:]])
    assert np.allclose(edges, np.clip(expected[:, :4], 0, 640), atol=1 / 64, rtol=0)


def test_a_single_label_is_the_best_one() -> None:
    raw = raw_from([(10, 10, 50, 50, [0.3, 0.8, 0.1]), (200, 200, 50, 50, [0.6, 0.2, 0.5])])
    single = decode(raw, IDENTITY, multi_label=False)
    assert single.categories.tolist() == [1, 0]
    assert len(decode(raw, IDENTITY)) == 6


def test_thresholds_are_strict() -> None:
    # Two boxes of 100 x 100 px, the second 60 px further right: IoU = 40 / 160 = 0.25 exactly.
    raw = raw_from([(0, 0, 100, 100, [0.9]), (60, 0, 100, 100, [0.5])])
    assert len(decode(raw, IDENTITY, iou=0.25)) == 2
    assert len(decode(raw, IDENTITY, iou=0.2499)) == 1
    assert len(decode(raw, IDENTITY, conf=0.5)) == 1
    assert len(decode(raw, IDENTITY, conf=0.499)) == 2


def test_classes_do_not_suppress_each_other_even_at_negative_coordinates() -> None:
    # A library that keeps classes apart by an offset lets a box left of the image reach into the class before.
    raw = raw_from([(600, 600, 40, 40, [0.9, 0.0]), (-1, -1, 40, 40, [0.0, 0.8]), (-41, -41, 40, 40, [0.0, 0.7])])
    assert decode(raw, IDENTITY).categories.tolist() == [0, 1, 1]
    same = raw_from([(5, 5, 40, 40, [0.9, 0.8])])
    assert decode(same, IDENTITY).categories.tolist() == [0, 1]


def test_equal_scores_keep_anchor_then_class_order() -> None:
    # Quantised scores are full of ties; a hundred anchors with few levels are enough for an unstable sort to show.
    levels = np.random.default_rng(0).choice([0.25, 0.5, 0.75], 100).tolist()
    found = decode(raw_from([(6 * i, 0, 5, 5, [level, level]) for i, level in enumerate(levels)]), IDENTITY)
    expected = sorted(range(100), key=lambda anchor: -levels[anchor])
    assert found.boxes[:, 0].tolist() == [6 * anchor for anchor in expected for _ in range(2)]
    assert found.categories.tolist() == [0, 1] * 100


def test_only_the_best_candidates_take_part() -> None:
    raw = raw_from([(100 * i, 0, 50, 50, [score]) for i, score in enumerate([0.2, 0.9, 0.5])])
    assert decode(raw, IDENTITY, max_candidates=2).boxes[:, 0].tolist() == [100, 200]


def test_results_lie_on_the_grid_and_inside_the_image() -> None:
    _, box = letterbox(np.zeros((333, 500, 3), np.uint8), 640)
    found = decode(head_output(7), box)
    assert np.array_equal(found.boxes * 32, np.round(found.boxes * 32))
    assert np.array_equal(found.scores * 65536, np.round(found.scores * 65536))
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 0] + found.boxes[:, 2]).max() <= 500
    assert (found.boxes[:, 1] + found.boxes[:, 3]).max() <= 333
    assert np.all(np.diff(found.scores) <= 0)
    kinds = (found.boxes.dtype, found.scores.dtype, found.categories.dtype)
    assert kinds == (np.dtype(np.float32), np.dtype(np.float32), np.dtype(np.int32))


def test_nothing_above_the_threshold_gives_no_detection() -> None:
    found = decode(np.zeros((84, 2100), np.float32), IDENTITY)
    assert len(found) == len(Detections.empty()) == 0
    assert found.boxes.shape == (0, 4)


def test_a_negative_side_has_no_area() -> None:
    found = decode(np.array([[50], [60], [-0.5], [10], [0.9]], np.float32), IDENTITY)
    assert found.boxes.tolist() == [[50, 55, 0, 10]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_is_refused(bad: float) -> None:
    raw = head_output(0, anchors=100)
    raw[17, 3] = bad
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 8400"):
        decode(raw, IDENTITY)


@pytest.mark.parametrize("shape", [(84,), (4, 100), (1, 84, 100)])
def test_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        decode(np.zeros(shape, np.float32), IDENTITY)


@pytest.mark.parametrize("option", [{"conf": -0.1}, {"iou": 1.1}, {"max_det": 0}, {"max_candidates": 0}])
def test_options_out_of_range_are_refused(option: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        decode(np.zeros((5, 10), np.float32), IDENTITY, **option)  # type: ignore[arg-type]


def test_detections_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="same detections"):
        Detections(np.zeros((2, 4), np.float32), np.zeros(2, np.float32), np.zeros(1, np.int32))


def test_drawing_marks_strong_detections_on_a_copy() -> None:
    image = np.full((200, 300, 3), 127, np.uint8)
    found = Detections(
        np.array([[20, 60, 100, 80], [200, 20, 60, 60]], np.float32),
        np.array([0.9, 0.2], np.float32),
        np.array([0, 1], np.int32),
    )
    drawn = draw(image, found, {0: "cat", 1: "dog"})
    assert np.all(image == 127)
    changed = np.any(drawn != 127, axis=2)
    assert changed[60:141, 20].all()
    assert not changed[:, 190:].any()
    assert np.any(draw(image, found, {0: "cat"}, min_score=0.1)[:, 190:] != 127)

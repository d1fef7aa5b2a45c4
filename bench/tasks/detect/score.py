"""COCO accuracy of detections, and how far it may differ between two cells on other images.

The evaluator is a library: hotcoco by default, pycocotools as the reference it is tested against.  What is ours is
small: turning a `Dataset` and `Detections` into the evaluator's input, and reading its result.

Conventions of COCO (Lin et al. 2014, and the code of pycocotools): IoU thresholds 0.50 to 0.95 in steps of 0.05,
precision interpolated at 101 recalls, averaged over classes that have objects; small is an area under 32² px, medium up
to 96² px, large above.  The area of an object is that of its mask in official annotations, else its width times its
height, as YOLO labels hold no masks.  At most the 100 best detections **per class and image** count; further ones are
neither true nor false positives, and so are those on a crowd region, which is no object that is to be found.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, get_args

import hotcoco
import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pycocotools.coco import COCO as PycocoSet  # noqa: N811 - a class, though in capitals
from pycocotools.cocoeval import COCOeval as PycocoEval

from bench.store.tables import DETECTIONS, GROUND_TRUTH
from bench.tasks.dataset import Dataset
from bench.tasks.detect.boxes import Detections
from bench.tasks.detect.resampling import IOU_THRESHOLDS

Evaluator = Literal["hotcoco", "pycocotools"]

_ALL, _SMALL, _MEDIUM, _LARGE = range(4)


@dataclass(frozen=True, eq=False)
class Accuracy:
    """COCO accuracy on 0..1; None where there are no objects of that size (or none at all).

    `per_class` holds the mAP50-95 of every class that has objects, by name.  `matched` holds for each image a uint16
    mask per detection, in the order of its `Detections`: bit i set means a true positive at IoU 0.50 + 0.05 i.
    `ignored` likewise holds which lie on a crowd region there, and count neither way.  `evaluator` is the library and
    its version.
    """

    map50_95: float | None
    map50: float | None
    map75: float | None
    small: float | None
    medium: float | None
    large: float | None
    per_class: dict[str, float]
    matched: dict[int, NDArray[np.uint16]]
    ignored: dict[int, NDArray[np.uint16]]
    evaluator: str


def evaluate(ground_truth: Dataset, detections: Mapping[int, Detections], evaluator: Evaluator = "hotcoco") -> Accuracy:
    """COCO accuracy of `detections`, keyed by image id, on the objects of `ground_truth`.

    Every image needs an entry (`Detections.empty()` where nothing was found): a forgotten image would pass for a
    missed one.  Raises ValueError on missing or unknown images, classes the set does not name, or an unknown evaluator.
    """
    if evaluator not in get_args(Evaluator):
        raise ValueError(f"evaluator must be one of {', '.join(get_args(Evaluator))}, not {evaluator!r}")
    if differing := set(detections) ^ {image.id for image in ground_truth.images}:
        raise ValueError(f"detections and images differ, first in image id {min(differing)}; each image needs an entry")
    results = _result_array(ground_truth, detections)
    run = _run_hotcoco if evaluator == "hotcoco" else _run_pycocotools
    precision, images = run(_coco_dict(ground_truth), results)
    everything = precision[..., _ALL, -1]
    counts = np.bincount(ground_truth.boxes["category"], minlength=len(ground_truth.names))
    matched, ignored = _matched(detections, images)
    return Accuracy(
        map50_95=_mean(everything),
        map50=_mean(everything[0]),
        map75=_mean(everything[5]),
        small=_mean(precision[..., _SMALL, -1]),
        medium=_mean(precision[..., _MEDIUM, -1]),
        large=_mean(precision[..., _LARGE, -1]),
        per_class={
            ground_truth.names[k]: value
            for k in np.flatnonzero(counts).tolist()
            if (value := _mean(everything[:, :, k])) is not None
        },
        matched=matched,
        ignored=ignored,
        evaluator=f"{evaluator} {metadata.version(evaluator)}",
    )


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Mean of the precisions that exist; the evaluators mark classes without objects with -1."""
    existing = precision[precision > -1]
    return float(existing.mean()) if existing.size else None


def _coco_dict(ground_truth: Dataset) -> dict[str, Any]:
    # Annotation ids start at 1: the evaluators write the id of the matched object and 0 for "not matched".
    return {
        "info": {},
        "images": [{"id": image.id, "width": image.width, "height": image.height} for image in ground_truth.images],
        "categories": [{"id": index, "name": name} for index, name in ground_truth.names.items()],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": area,
                "iscrowd": int(crowd),
            }
            for number, (image_id, category, x, y, w, h, area, crowd) in enumerate(ground_truth.boxes.tolist(), start=1)
        ],
    }


def _result_array(ground_truth: Dataset, detections: Mapping[int, Detections]) -> NDArray[np.float64]:
    """(n, 7) rows of image id, x, y, w, h, score, class: what both evaluators load.

    Row i gets the detection id i + 1, which is how `_matched` finds its way back.
    """
    blocks = []
    for image_id in sorted(detections):
        found = detections[image_id]
        if unknown := set(found.categories.tolist()) - set(ground_truth.names):
            raise ValueError(
                f"image id {image_id}: class {min(unknown)} is not one of the {len(ground_truth.names)} classes of "
                f"{ground_truth.name}; the model was trained on other classes"
            )
        identity = np.full(len(found), image_id)
        blocks.append(np.column_stack([identity, found.boxes, found.scores, found.categories]).astype(np.float64))
    return np.concatenate(blocks)


_ImageResult = Mapping[str, Any] | None


def _run_hotcoco(
    ground_truth: dict[str, Any], results: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[_ImageResult]]:
    """Precision (10 IoU, 101 recalls, classes, 4 areas, 3 limits) and the matches of each class and image."""
    objects = hotcoco.COCO(ground_truth)
    found = objects.load_res(results)
    evaluation = hotcoco.COCOeval(objects, found, "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    # Its matches come as Python lists, which costs more than evaluating: ask again for the one area that is read.
    matching = hotcoco.COCOeval(objects, found, "bbox")
    matching.params.area_rng = evaluation.params.area_rng[:1]
    matching.params.area_rng_lbl = evaluation.params.area_rng_lbl[:1]
    matching.evaluate()
    curves: Any = evaluation.eval
    return np.asarray(curves["precision"]), list(matching.eval_imgs)


def _run_pycocotools(
    ground_truth: dict[str, Any], results: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[_ImageResult]]:
    """The same from the reference evaluator, which announces its progress on stdout and cannot load an empty array."""
    with contextlib.redirect_stdout(io.StringIO()):
        objects, found = PycocoSet(), PycocoSet()
        objects.dataset = ground_truth
        objects.createIndex()
        if len(results):
            found = objects.loadRes(results)
        else:
            found.dataset = {**ground_truth, "annotations": []}
            found.createIndex()
        evaluation = PycocoEval(objects, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    everything = list(evaluation.params.areaRng[_ALL])
    images = [image for image in evaluation.evalImgs if image is not None and list(image["aRng"]) == everything]
    return np.asarray(evaluation.eval["precision"]), images


def _matched(
    detections: Mapping[int, Detections], images: Sequence[_ImageResult]
) -> tuple[dict[int, NDArray[np.uint16]], dict[int, NDArray[np.uint16]]]:
    """True positives, and what counts neither way, per detection: from the evaluator's own matches over all areas."""
    order = sorted(detections)
    starts = np.cumsum([0, *(len(detections[image_id]) for image_id in order)])
    true, neither = np.zeros(starts[-1], np.uint16), np.zeros(starts[-1], np.uint16)
    bits = (1 << np.arange(len(IOU_THRESHOLDS))).astype(np.uint16)
    for image in images:
        if image is not None and len(image["dtIds"]):
            rows = np.asarray(image["dtIds"], np.intp) - 1
            ignored = np.asarray(image["dtIgnore"]).astype(bool)
            true[rows] = bits @ ((np.asarray(image["dtMatches"]) > 0) & ~ignored)
            neither[rows] = bits @ ignored
    parts = list(zip(order, starts, starts[1:], strict=False))
    by_image = [{image_id: masks[start:stop] for image_id, start, stop in parts} for masks in (true, neither)]
    return by_image[0], by_image[1]


def detection_table(cell_id: str, detections: Mapping[int, Detections], accuracy: Accuracy) -> pa.Table:
    """Rows of the store's `detections` table, by image id and best first: the order the evaluator saw them in."""
    order = sorted(detections)
    found = [detections[image_id] for image_id in order]
    boxes = np.concatenate([np.empty((0, 4), np.float32), *(d.boxes for d in found)])
    columns: dict[str, Any] = {
        "cell_id": pa.array([cell_id] * len(boxes), pa.string()).dictionary_encode(),
        "image_id": np.repeat(np.array(order, np.int32), [len(d) for d in found]),
        "category_id": np.concatenate([np.empty(0, np.int32), *(d.categories for d in found)]).astype(np.int16),
        "score": np.concatenate([np.empty(0, np.float32), *(d.scores for d in found)]),
        **{name: boxes[:, index] for index, name in enumerate("xywh")},
        "matched": np.concatenate([np.empty(0, np.uint16), *(accuracy.matched[image_id] for image_id in order)]),
        "ignored": np.concatenate([np.empty(0, np.uint16), *(accuracy.ignored[image_id] for image_id in order)]),
    }
    return pa.table(columns).cast(DETECTIONS)


def ground_truth_table(ground_truth: Dataset) -> pa.Table:
    """Rows of the store's `ground_truth` table: objects per image and class, class -1 for an image without any.

    Crowd regions are not among them.
    """
    objects = ground_truth.boxes[~ground_truth.boxes["crowd"]]
    boxes = pd.DataFrame({"image_id": objects["image_id"], "category_id": objects["category"]})
    counts = boxes.groupby(["image_id", "category_id"]).size().rename("objects").reset_index()
    images = pd.DataFrame(
        {
            "image_id": [image.id for image in ground_truth.images],
            "file_name": [image.path.name for image in ground_truth.images],
        }
    )
    rows = images.merge(counts, on="image_id", how="left")
    rows = rows.fillna({"category_id": -1, "objects": 0}).astype({"category_id": "int16", "objects": "int32"})
    return pa.table({name: pa.array(rows[name]) for name in GROUND_TRUTH.names}).cast(GROUND_TRUTH)

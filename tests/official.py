"""Annotations in COCO's own form, made of label files, with what these cannot say: areas, crowds, ids with gaps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench.tasks.detect.task import load

CROWDS_EVERY = 3
"""Every third image has a crowd region."""


def instances_of(data: Path, *, images: int | None = None) -> dict[str, Any]:
    """Of a data file's val split: image ids that are no indices, category ids with gaps, crowds, licences 1 to 8.

    Areas are under those of the boxes, as masks are, so that some objects are smaller than their boxes say.
    """
    labelled = load(data, limit=images)
    rng = np.random.default_rng(0)
    ids = {image.id: 1000 + 7 * image.id for image in labelled.images}
    categories = {index: 3 * index + 5 for index in labelled.names}
    found = []
    for image, category, x, y, w, h, *_ in labelled.boxes.tolist():
        box = [round(float(value), 2) for value in (x, y, w, h)]
        found.append((ids[image], categories[category], box, box[2] * box[3] * rng.uniform(0.3, 0.9), 0))
    for image in labelled.images[::CROWDS_EVERY]:
        box = [round(share * side, 2) for share, side in ((0.1, image.width), (0.2, image.height)) * 2]
        box = [box[0], box[1], 4 * box[2], 3 * box[3]]
        # Of the class that is there most, so that detections fall on it.
        found.append((ids[image.id], categories[0], box, box[2] * box[3] / 2, 1))
    order = rng.permutation(len(found))
    return {
        "info": {"description": "made of label files"},
        "licenses": [{"id": number, "name": f"licence {number}", "url": ""} for number in range(1, 9)],
        "images": [
            {
                "id": ids[image.id], "file_name": image.path.name, "width": image.width, "height": image.height,
                "license": 1 + image.id % 8, "coco_url": f"http://example.com/{image.path.name}",
            }
            for image in labelled.images
        ],
        "categories": [
            {"id": categories[index], "name": name, "supercategory": "shape"} for index, name in labelled.names.items()
        ],
        "annotations": [
            {
                "id": 100 + number, "image_id": image_id, "category_id": category_id, "bbox": box, "area": area,
                "iscrowd": crowd, "segmentation": [],
            }
            for number, (image_id, category_id, box, area, crowd) in enumerate(found[place] for place in order)
        ],
    }  # fmt: skip


def write(folder: Path, data: Path, key: str = "", **changed: Any) -> Path:
    """A data file with official annotations beside it, of another one's images; `key` is the rest of its own key."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "instances.json").write_text(json.dumps({**instances_of(data), **changed}))
    path = folder / "official.yaml"
    source = data.parent
    path.write_text(
        f"path: {source}\ntrain: images/calib\nval: images/val\n"
        f"annotations:\n  file: {folder / 'instances.json'}\n{key}"
    )
    return path


def official_stats(instances: Path, results: Path, images: Sequence[int] | None = None) -> list[float]:
    """What pycocotools itself makes of two files: AP, AP50, AP75, small, medium, large."""
    truth = COCO(str(instances))
    evaluation = COCOeval(truth, truth.loadRes(str(results)), "bbox")
    if images is not None:
        evaluation.params.imgIds = list(images)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [float(value) for value in evaluation.stats[:6]]

"""Official annotations: read as COCO has them, scored as pycocotools scores them, and wrong ones are told."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from official import instances_of, official_stats, write
from rich.console import Console
from running import USERS_CACHE, bench
from sets import SIZE, picture, problems_of
from test_coco import noisy_detections, weighted_map

from bench import demo
from bench.grid.request import Request, expand
from bench.measure import bundle
from bench.measure.prepare import ingredients
from bench.progress import Reporter
from bench.reasons import Collector, Problems
from bench.report.submission import SCORE_DIGITS
from bench.tasks.dataset import Dataset
from bench.tasks.detect.boxes import SCORE_STEP, Detections
from bench.tasks.detect.resampling import bootstrap_delta
from bench.tasks.detect.score import detection_table, evaluate, ground_truth_table
from bench.tasks.detect.task import DETECT, load
from bench.tasks.instances import Instances
from bench.words.numbers import count

COCO128 = Path(os.environ.get("BENCH_COCO128", Path(__file__).parents[2] / "shared/assets/coco128"))


@pytest.fixture(scope="module")
def data() -> Path:
    """The data file of the embedded set."""
    return demo.prepare(USERS_CACHE / "demo")


@pytest.fixture(scope="module")
def official(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("official"), data)


def rounded(found: dict[int, Detections]) -> dict[int, Detections]:
    """Detections on the grid that the decoder puts them on."""
    return {
        image: Detections(
            (np.round(one.boxes * 32) / 32).astype(np.float32),
            (np.round(one.scores / SCORE_STEP) * SCORE_STEP).astype(np.float32),
            one.categories,
        )
        for image, one in found.items()
    }


def results_file(path: Path, dataset: Dataset, found: dict[int, Detections]) -> Path:
    """A COCO results file, written by hand."""
    rows = [
        {
            "image_id": image,
            "category_id": dataset.categories[category],
            "bbox": box,
            "score": score,
        }
        for image, one in sorted(found.items())
        for box, score, category in zip(one.boxes.tolist(), one.scores.tolist(), one.categories.tolist(), strict=True)
    ]
    path.write_text(json.dumps(rows))
    return path


def test_a_file_is_read_as_it_is(data: Path, official: Path) -> None:
    wanted = json.loads((official.parent / "instances.json").read_text())
    dataset = load(official)
    assert [(image.id, image.path.name) for image in dataset.images] == [
        (image["id"], image["file_name"]) for image in wanted["images"]
    ]
    assert dataset.names == load(data).names
    assert dataset.categories == (*(category["id"] for category in wanted["categories"]),)
    # Floats too: JSON's digits are the doubles that Python's own reader takes them for.
    assert sorted(dataset.boxes.tolist()) == sorted(
        (one["image_id"], (one["category_id"] - 5) // 3, *one["bbox"], one["area"], bool(one["iscrowd"]))
        for one in wanted["annotations"]
    )
    assert any(dataset.boxes["crowd"])
    # Label files do not count: neither their boxes nor that an image has none.
    assert not {"no_label_file", "repeated_rows"} & {remark.name for remark in dataset.remarks}


@pytest.mark.parametrize("evaluator", ["hotcoco", "pycocotools"])
def test_the_score_is_that_of_pycocotools_to_the_last_digit(official: Path, tmp_path: Path, evaluator: Any) -> None:
    dataset = load(official)
    found = rounded(noisy_detections(dataset, 3))
    accuracy = evaluate(dataset, found, evaluator)
    stats = official_stats(official.parent / "instances.json", results_file(tmp_path / "r.json", dataset, found))
    own = [getattr(accuracy, name) for name in ("map50_95", "map50", "map75", "small", "medium", "large")]
    assert own == stats
    assert 0.05 < stats[0] < 0.9


def test_crowds_and_areas_make_a_difference(official: Path) -> None:
    dataset = load(official)
    found = rounded(noisy_detections(dataset, 3))
    accuracy = evaluate(dataset, found)
    objects = dataset.boxes.copy()
    objects["crowd"] = False
    assert evaluate(replace(dataset, boxes=objects), found).map50_95 != accuracy.map50_95
    boxes = dataset.boxes.copy()
    boxes["area"] = boxes["w"] * boxes["h"]
    plain = evaluate(replace(dataset, boxes=boxes), found)
    assert plain.map50_95 == accuracy.map50_95
    assert (plain.small, plain.medium) != (accuracy.small, accuracy.medium)


def test_the_bootstrap_leaves_out_what_lies_on_a_crowd(official: Path) -> None:
    dataset = load(official)
    found = rounded(noisy_detections(dataset, 3))
    accuracy = evaluate(dataset, found)
    table = detection_table("cell", found, accuracy).to_pandas()
    truth = ground_truth_table(dataset).to_pandas()
    assert table["ignored"].any()
    assert not (table["ignored"] & table["matched"]).any()
    assert weighted_map(table, truth) == pytest.approx(accuracy.map50_95, abs=1e-12)
    assert weighted_map(table.assign(ignored=0), truth) < weighted_map(table, truth)
    # Image by image too: any part of the images has the score that it has by itself.
    ids = [image.id for image in dataset.images][::5]
    part = replace(
        dataset,
        images=tuple(image for image in dataset.images if image.id in ids),
        boxes=dataset.boxes[np.isin(dataset.boxes["image_id"], ids)],
    )
    weights = {image.id: int(image.id in ids) for image in dataset.images}
    expected = evaluate(part, {image: found[image] for image in ids}).map50_95
    assert weighted_map(table, truth, weights) == pytest.approx(expected, abs=1e-12)


def test_detections_of_older_runs_lie_on_no_crowd(official: Path) -> None:
    dataset = load(official)
    found = rounded(noisy_detections(dataset, 3))
    table = detection_table("cell", found, evaluate(dataset, found)).to_pandas()
    truth = ground_truth_table(dataset).to_pandas()
    older = table.assign(ignored=pd.Series(np.nan, table.index))
    assert weighted_map(older, truth) == weighted_map(table.assign(ignored=0), truth)
    assert bootstrap_delta(older, older, truth, n=10).value == 0.0


@pytest.mark.skipif(not COCO128.is_dir(), reason="no COCO images here; name their folder in BENCH_COCO128")
def test_real_images_of_coco(tmp_path: Path) -> None:
    path = tmp_path / "coco.yaml"
    path.write_text(
        f"path: {COCO128.resolve()}\ntrain: images/train2017\nval: images/val2017\n"
        "annotations: annotations/instances_val2017.json\n"
    )
    dataset, labelled = load(path), load(COCO128 / "coco128.yaml")
    assert dataset.names == labelled.names
    assert [image.id for image in dataset.images] == [int(image.path.stem) for image in labelled.images]
    found = rounded(noisy_detections(dataset, 0, spurious=60))
    stats = official_stats(dataset.annotations or path, results_file(tmp_path / "r.json", dataset, found))
    assert evaluate(dataset, found).map50_95 == stats[0]


# Parts of the images.


def test_a_part_by_licence_or_by_a_list(data: Path, tmp_path: Path) -> None:
    every = instances_of(data)["images"]
    path = write(tmp_path, data, "  licenses: [4, 7]\n")
    dataset = load(path)
    assert [image.id for image in dataset.images] == [one["id"] for one in every if one["license"] in (4, 7)]
    assert [remark.name for remark in dataset.remarks] == ["part_of_annotations"]
    assert dataset.notes[0].startswith(f"{len(dataset.images)} of the {len(every)} images of instances.json")

    listed = tmp_path / "ids.txt"
    listed.write_text(f"{every[3]['id']}\n\n{every[4]['file_name']}\n./images/val/{every[11]['file_name']}\n")
    path = write(tmp_path, data, f"  image_ids: {listed}\n")
    assert [image.id for image in load(path).images] == [every[place]["id"] for place in (3, 4, 11)]
    assert len(load(path, limit=2).images) == 2

    path = write(tmp_path, data, f"  image_ids: {listed}\n  licenses: [{every[4]['license']}]\n")
    # The other two have that licence if they are eight images further on, and they are not ...
    assert [image.id for image in load(path).images] == [every[4]["id"]]


def test_a_part_is_scored_as_pycocotools_scores_it(data: Path, tmp_path: Path) -> None:
    path = write(tmp_path, data, "  licenses: [4, 5, 6, 7, 8]\n")
    dataset = load(path)
    found = rounded(noisy_detections(dataset, 1))
    ids = [image.id for image in dataset.images]
    stats = official_stats(tmp_path / "instances.json", results_file(tmp_path / "r.json", dataset, found), ids)
    assert evaluate(dataset, found).map50_95 == stats[0]


# What is wrong is told in one line.


def small(root: Path, **changed: Any) -> dict[str, Any]:
    """Annotations of two images of two classes, of which the second is a crowd."""
    for name in "ab":
        picture(root / f"images/val/{name}.png")
    return {
        "images": [
            {"id": 5, "file_name": "a.png", "width": SIZE[0], "height": SIZE[1]},
            {"id": 3, "file_name": "b.png", "width": SIZE[0], "height": SIZE[1]},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"image_id": 5, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 6, "iscrowd": 0},
            {"image_id": 5, "category_id": 2, "bbox": [0, 0, 9, 9], "area": 40, "iscrowd": 1},
        ],
        **changed,
    }


def wrong(root: Path, content: object, rest: str = "annotations: i.json\n") -> tuple[str, ...]:
    (root / "i.json").write_text(content if isinstance(content, str) else json.dumps(content))
    (root / "set.yaml").write_text(f"val: images/val\n{rest}")
    return problems_of(root / "set.yaml")


def test_names_are_matched_by_name_and_else_come_from_the_file(tmp_path: Path) -> None:
    assert wrong(tmp_path, small(tmp_path)) == ()
    dataset = load(tmp_path / "set.yaml")
    assert (dataset.names, dataset.categories) == ({0: "cat", 1: "dog"}, (2, 9))
    assert dataset.boxes.tolist() == [
        (5, 1, 1.0, 2.0, 3.0, 4.0, 6.0, False),
        (5, 0, 0.0, 0.0, 9.0, 9.0, 40.0, True),
    ]
    assert wrong(tmp_path, small(tmp_path), "annotations: i.json\nnames: [dog, cat]\n") == ()
    dataset = load(tmp_path / "set.yaml")
    assert (dataset.names, dataset.categories) == ({0: "dog", 1: "cat"}, (9, 2))
    assert dataset.boxes["category"].tolist() == [0, 1]


def test_categories_that_are_not_the_names(tmp_path: Path) -> None:
    (text,) = wrong(tmp_path, small(tmp_path), "annotations: i.json\nnames: [cat, horse]\n")
    assert text.startswith(f"{tmp_path / 'set.yaml'}, line 3: 'names' and the categories of")
    assert "only 'names' has 'horse'; only the categories have 'dog'." in text
    (text,) = wrong(tmp_path, small(tmp_path), "annotations: i.json\nnc: 3\n")
    assert "line 3: 'nc' is 3" in text


def test_images_missing_and_too_many(tmp_path: Path) -> None:
    content = small(tmp_path)
    picture(tmp_path / "images/val/c.png")
    (text,) = wrong(tmp_path, content)
    assert text.startswith(f"{tmp_path / 'set.yaml'}, line 1: 1 of 3 images of 'val' are not in {tmp_path / 'i.json'}")
    assert "c.png" in text
    (tmp_path / "images/val/c.png").unlink()
    (tmp_path / "images/val/b.png").unlink()
    (text,) = wrong(tmp_path, content)
    assert text.startswith(f"{tmp_path / 'set.yaml'}, line 2: 1 of the 2 images to be evaluated are not in 'val'")
    assert "b.png" in text
    assert "image_ids" in text
    (tmp_path / "ids.txt").write_text("5\n")
    assert wrong(tmp_path, content, "annotations:\n  file: i.json\n  image_ids: ids.txt\n") == ()


def test_an_image_of_another_size_or_name_twice(tmp_path: Path) -> None:
    content = small(tmp_path)
    content["images"][1]["width"] = 41
    (text,) = wrong(tmp_path, content)
    assert "b.png is 40 x 20 px and 41 x 20 px in" in text
    picture(tmp_path / "images/val/sub/a.png")
    assert any("more than once" in text for text in wrong(tmp_path, small(tmp_path)))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"annotations": [{"image_id": 5, "category_id": 9, "area": 6}]}, "annotations[0].bbox: Field required"),
        (
            {"annotations": [{"image_id": 5, "category_id": 9, "bbox": [1, 2, -3, 4], "area": 6}]},
            "annotations[0].bbox[2]: Input should be greater than or equal to 0",
        ),
        (
            {"annotations": [{"image_id": 6, "category_id": 9, "bbox": [1, 2, 3, 4], "area": 6}]},
            "annotations[0] has the image_id 6, which the file does not list",
        ),
        (
            {"annotations": [{"image_id": 5, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 6}]},
            "annotations[0] has the category_id 1, which the file does not list",
        ),
        ({"categories": [{"id": 2, "name": "cat"}, {"id": 9, "name": "cat"}]}, "the category cat is there more than"),
        ({"images": []}, "has no images or no categories"),
    ],
)
def test_a_file_that_is_not_as_coco_has_it(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    found = wrong(tmp_path, small(tmp_path, **changed))
    assert any(told in text and str(tmp_path / "i.json") in text for text in found), found


def test_a_file_that_is_no_json_and_a_key_that_leads_nowhere(tmp_path: Path) -> None:
    small(tmp_path)
    (text,) = wrong(tmp_path, "[1,")
    assert text.startswith(f"{tmp_path / 'i.json'}: Invalid JSON")
    (text,) = wrong(tmp_path, small(tmp_path), "annotations: other.json\n")
    assert text.startswith(f"{tmp_path / 'set.yaml'}, line 2: 'annotations: other.json' leads to")
    (text,) = wrong(tmp_path, small(tmp_path), "annotations: images\n")
    assert "which is no file" in text
    for rest in ("annotations: [a, b]\n", "annotations:\n  files: i.json\n"):
        assert all("line 2: 'annotations' must be" in text for text in wrong(tmp_path, small(tmp_path), rest))
    (tmp_path / "ids.txt").write_text("5\n77\n")
    (text,) = wrong(tmp_path, small(tmp_path), "annotations:\n  file: i.json\n  image_ids: ids.txt\n")
    assert text.startswith(f"{tmp_path / 'ids.txt'}, line 2: '77' is neither the id nor the file name")
    (text,) = wrong(tmp_path, small(tmp_path), "annotations:\n  file: i.json\n  licenses: [4]\n")
    assert "no image of" in text


def test_inspect_says_what_annotates(official: Path) -> None:
    done = bench("inspect", "--data", official)
    assert done.code == 0, done.said
    facts = json.loads(bench("inspect", "--data", official, "--format", "json").said)
    wanted = Instances.read(official.parent / "instances.json")
    assert facts["data"]["annotations"] == str(wanted.path)
    assert facts["data"]["objects"] == len(wanted.rows)
    assert facts["data"]["crowd_regions"] == int(wanted.rows["crowd"].sum()) > 0
    assert facts["data"]["label_files"] == {}
    told = f"{count(len(wanted.rows), 'annotation')}, {facts['data']['crowd_regions']} crowd regions among them"
    assert " ".join(told.split()) in " ".join(done.said.split())  # its thin space too


def test_the_data_files_of_coco_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder `coco` here: a small set in the layout of COCO's archives."""
    root = tmp_path / "coco"
    content = small(root)
    content["images"][0]["license"], content["images"][1]["license"] = 4, 1
    (root / "images/val").rename(root / "images/val2017")
    (root / "annotations").mkdir()
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    ids = {}
    for name in ("coco-val2017", "coco-mlperf.yaml"):
        facts = json.loads(bench("inspect", "--data", name, "--precisions", "fp32", "--format", "json").said)
        assert facts["data"]["annotations"] == str(root / "annotations/instances_val2017.json")
        ids[name] = facts["data"]["images"]["read"]
    assert ids == {"coco-val2017": 2, "coco-mlperf.yaml": 1}


def test_a_bundle_brings_them(official: Path, tmp_path: Path) -> None:
    request = Request({"data": str(official), "images": "5", "options": "onnx", "precisions": "fp32"})
    grid = expand(request)
    given = ingredients(request, grid, Reporter(Console(), enabled=False))
    brought = load(bundle._images(given, grid, tmp_path))
    assert [(one.id, one.content) for one in brought.images] == [(one.id, one.content) for one in given.dataset.images]
    assert brought.boxes.tolist() == given.dataset.boxes.tolist()
    assert brought.categories == given.dataset.categories
    assert brought.sha256 == given.dataset.sha256
    assert Path(str(brought.annotations)).is_relative_to(tmp_path)


def test_rounded_scores_keep_their_order() -> None:
    steps = np.arange(0, 2**16 + 1) * SCORE_STEP
    assert (np.diff([round(score, SCORE_DIGITS) for score in steps.tolist()]) > 0).all()


def test_problems_are_all_told_at_once(tmp_path: Path) -> None:
    content = small(tmp_path)
    picture(tmp_path / "images/val/c.png")
    content["images"].append({"id": 8, "file_name": "d.png", "width": 1, "height": 1})
    found = wrong(tmp_path, content)
    assert len(found) == 2
    with pytest.raises(Problems):
        load(tmp_path / "set.yaml")
    problems = Collector()
    assert DETECT.read(tmp_path / "set.yaml", problems) is not None

"""One image, the same for every option, with the boxes each of them found."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.cells import cell_len

from bench.reasons import UsageError
from bench.report.svg import PALETTE_SIZE
from bench.store.reading import Run, StoredCell
from bench.words.locale import Locale
from bench.words.numbers import clean, number

_LONGEST_SIDE = 900
_LABELLED = 14
_LINES = 30  # captions as high as the picture is wide
_BROAD = 0.62  # of a letter's height that it is wide at most, on average
_SAME_IOU = 0.5


@dataclass(frozen=True)
class Label:
    """A caption whose line begins at `x`, `y` of the picture, or ends there where `ends`."""

    text: str
    x: float
    y: float
    ends: bool


@dataclass(frozen=True)
class Box:
    """One detection in pixels of the shown picture, with its class, colour index and caption."""

    x: float
    y: float
    w: float
    h: float
    colour: int
    correct: bool
    label: Label | None
    tooltip: str


@dataclass(frozen=True)
class Panel:
    """One option's detections on the picture.

    `same`, `extra` and `missing` count them against PyTorch FP32's: same class and IoU of at least 0.5.
    """

    cell: StoredCell
    boxes: tuple[Box, ...]
    correct: int
    same: int
    extra: int
    missing: int
    compared: bool


@dataclass(frozen=True)
class Photo:
    """Everything the page shows about one image.  `data_uri` is empty when only a plain canvas can be drawn."""

    file_name: str
    width: int
    height: int
    data_uri: str
    note: str
    objects: int
    legend: tuple[tuple[str, int], ...]
    panels: tuple[Panel, ...]

    @property
    def letters(self) -> float:
        """Height of a caption in pixels of the picture."""
        return self.width / _LINES


def build(run: Run, image: Path | None, min_score: float, t: Locale) -> Photo | None:
    """Choose the image and draw it for every measured cell; None when the run holds no image or no measured cell.

    The image is `image` when given, else the one the run names as `report_image_id`, else the one with most objects.
    Raises bench.reasons.UsageError when `image` is there but is not one of the run's images, or cannot be read.
    """
    truth = run.ground_truth
    if truth.empty or not run.measured:
        return None
    image_id, file_name = _choose(run, image)
    path = _find(run, image, file_name)
    every = run.detections(image_id)
    chosen = every[every["score"] >= min_score]
    picture = _read(path) if path is not None else None
    if picture is None:
        height, width = _extent(every)
        uri, note = "", t("detections.plain")
    else:
        height, width = picture.shape[:2]
        uri, note = _data_uri(picture), ""
    categories = Counter(int(category) for category in chosen["category_id"])
    colours = {category: 1 + index % (PALETTE_SIZE - 1) for index, (category, _) in enumerate(categories.most_common())}
    names = _names(run)
    by_cell = {str(key): frame for key, frame in chosen.groupby("cell_id", observed=True)}
    empty = chosen.iloc[:0]
    panels = []
    for cell in run.measured:
        found = by_cell.get(cell.cell_id, empty).sort_values("score", ascending=False, kind="stable")
        reference = run.reference_for(cell)
        baseline = by_cell.get(reference.cell_id, empty) if reference is not None else empty
        panels.append(_panel(cell, found, baseline, reference is not None, colours, names, width, t))
    objects = int(truth.loc[(truth["image_id"] == image_id) & (truth["category_id"] >= 0), "objects"].sum())
    legend = tuple((names.get(one) or t("detections.class", n=one), colour) for one, colour in colours.items())
    return Photo(clean(file_name), width, height, uri, note, objects, legend, tuple(panels))


def _choose(run: Run, image: Path | None) -> tuple[int, str]:
    truth = run.ground_truth
    names = dict(zip(truth["image_id"].astype(int).tolist(), truth["file_name"].astype(str).tolist(), strict=True))
    if image is not None and image.exists():
        matches = [image_id for image_id, name in names.items() if name == image.name]
        if not matches:
            raise UsageError(
                f"{image}: the run holds no image of that name, so there are no detections to draw on it. "
                "Give an image of the evaluated split, or none to let the report choose one."
            )
        return matches[0], names[matches[0]]
    wanted = run.fact("report_image_id")
    if wanted.strip().isdigit() and int(wanted) in names:
        return int(wanted), names[int(wanted)]
    objects = truth[truth["category_id"] >= 0].groupby("image_id")["objects"].sum()
    image_id: int = objects.astype(int).idxmax() if not objects.empty else min(names)  # type: ignore[assignment]  # an image id
    return image_id, names[image_id]


def _find(run: Run, image: Path | None, file_name: str) -> Path | None:
    if image is not None:
        return image if image.exists() else None
    folder = run.fact("images_dir")
    # A file name from the table is a bare name; anything else must not lead out of the folder.
    if not folder or file_name != Path(file_name).name:
        return None
    direct = Path(folder) / file_name
    if direct.is_file():
        return direct
    return next((path for path in sorted(Path(folder).rglob("*")) if path.name == file_name and path.is_file()), None)


def _read(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise UsageError(f"{path}: not an image that OpenCV can read. Give a JPEG, PNG or WebP file.")
    return np.asarray(picture, dtype=np.uint8)


def _data_uri(picture: NDArray[np.uint8]) -> str:
    scale = min(1.0, _LONGEST_SIDE / max(picture.shape[:2]))
    if scale < 1:
        picture = np.asarray(
            cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), dtype=np.uint8
        )
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 82, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def _extent(detections: pd.DataFrame) -> tuple[int, int]:
    """Height and width that hold every detection, since detections are clipped to the image; square when none."""
    if detections.empty:
        return 640, 640
    bottom, right = (detections["y"] + detections["h"]).max(), (detections["x"] + detections["w"]).max()
    return max(int(np.ceil(bottom)), 16), max(int(np.ceil(right)), 16)


def _names(run: Run) -> dict[int, str]:
    """Class names by index where the run recorded them, as a JSON list or object under `model_classes` or `names`."""
    recorded = run.fact("model_classes", "names")
    try:
        parsed = json.loads(recorded) if recorded else {}
    except json.JSONDecodeError:
        return {}
    pairs = enumerate(parsed) if isinstance(parsed, list) else parsed.items() if isinstance(parsed, dict) else ()
    return {int(key): clean(str(name)) for key, name in pairs if str(key).isdigit()}


def _panel(
    cell: StoredCell,
    found: pd.DataFrame,
    baseline: pd.DataFrame,
    compared: bool,
    colours: dict[int, int],
    names: dict[int, str],
    width: int,
    t: Locale,
) -> Panel:
    boxes: list[Box] = []
    covered: list[tuple[float, float, float, float]] = []
    records: list[dict[Any, Any]] = found.to_dict("records")
    for position, row in enumerate(records):
        category = int(row["category_id"])
        name = names.get(category) or t("detections.class", n=category)
        correct = bool(int(row["matched"]) & 1)
        caption = f"{name} {number(float(row['score']), 2)}"
        verdict = t("detections.matches" if correct else "detections.matches_none")
        boxes.append(
            Box(
                round(float(row["x"]), 1),
                round(float(row["y"]), 1),
                round(float(row["w"]), 1),
                round(float(row["h"]), 1),
                colours[category],
                correct,
                _label(caption, row, width, covered) if position < _LABELLED else None,
                f"{caption}\n{verdict}",
            )
        )
    same = _common(found, baseline)
    correct_count = sum(box.correct for box in boxes)
    return Panel(cell, tuple(boxes), correct_count, same, len(found) - same, len(baseline) - same, compared)


def _label(
    caption: str, row: dict[Any, Any], width: int, covered: list[tuple[float, float, float, float]]
) -> Label | None:
    """The caption above a box, where it lies on no other; what it covers is added to `covered`."""
    high = width / _LINES
    long = _BROAD * high * cell_len(caption)
    ends = row["x"] > 0.6 * width
    x, y = float(row["x"] + (row["w"] if ends else 0)), max(float(row["y"]) - high / 4, high)
    left = x - long if ends else x
    place = (left, y - high, left + long, y + high / 4)
    if any(
        place[0] < other[2] and other[0] < place[2] and place[1] < other[3] and other[1] < place[3] for other in covered
    ):
        return None
    covered.append(place)
    return Label(caption, round(x, 1), round(y, 1), ends)


def _common(found: pd.DataFrame, baseline: pd.DataFrame) -> int:
    """Pairs of the same class with IoU of at least 0.5, taken greedily from the highest IoU down."""
    if found.empty or baseline.empty:
        return 0
    a, b = (frame[["x", "y", "w", "h"]].to_numpy(dtype=float) for frame in (found, baseline))
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    shared = np.prod(np.clip(bottom_right - top_left, 0, None), axis=2)
    union = np.prod(a[:, 2:], axis=1)[:, None] + np.prod(b[:, 2:], axis=1)[None, :] - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    iou[found["category_id"].to_numpy()[:, None] != baseline["category_id"].to_numpy()[None, :]] = 0
    pairs = 0
    while iou.size and iou.max() >= _SAME_IOU:
        row, column = np.unravel_index(int(iou.argmax()), iou.shape)
        iou[row, :] = 0
        iou[:, column] = 0
        pairs += 1
    return pairs

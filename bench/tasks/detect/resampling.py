"""How sure a difference in mAP is: a paired bootstrap over images that recomputes COCO mAP50-95 for every resample.

It needs nothing but the stored tables: which detections were true positives at which IoU (`detections.matched`), which
counted neither way (`detections.ignored`) and how many objects each image holds (`ground_truth`).  Matching happens
within one image, so an image drawn twice into a resample simply counts twice; only precision and recall have to be
summed up again, with images as weights.

Two facts make that fast without approximating.  The largest precision to the right of a recall, which COCO reads off
at 101 recalls, is always attained at a true positive; so curves are kept at true positives alone.  And detections have
a fixed order by score, so one cumulative sum in that order gives the denominators of all of them: of the weights of
what lies between two true positives, which a sparse matrix adds up, since of thirty detections one is such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bench.stats import Interval

RESAMPLES = 1000
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
MAX_DETECTIONS_PER_CLASS = 100
_BATCH_ELEMENTS = 50_000
"""Of an array at most: of 0.4 MB, which a processor keeps near.  From twice as many on it took twice as long."""
_KEPT = 4
"""Cells whose resamples are kept: the references of a run, and the cell at hand."""
_DETECTIONS = ("image_id", "category_id", "score", "matched", "ignored")
_TRUTH = ("image_id", "category_id", "objects")
"""Columns that count in the two tables."""


def bootstrap_delta(
    cell: pd.DataFrame,
    reference: pd.DataFrame,
    ground_truth: pd.DataFrame,
    *,
    n: int = RESAMPLES,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """mAP50-95 of `cell` minus that of `reference` on the same images, with its paired bootstrap interval.

    `cell` and `reference` are rows of the store's `detections` table (image_id, category_id, score, matched, ignored),
    each of one cell; `ground_truth` its `ground_truth` table, which also says which images there are.  Each of `n`
    resamples draws as many images as there are, with replacement, and both cells are evaluated on the same draw; the
    interval is the percentile interval of the n differences (Efron and Tibshirani 1993, chapter 13).  A draw without
    any object has no mAP and is left out.  The same `seed` draws the same images whatever the cells.

    1000 resamples of 128 images and 22 000 detections take about 0.2 s a cell on one core, and put the ends of the
    interval within about 2 % of its width of where 4000 put them.

    Raises ValueError when no image has objects, or detections name an image the ground truth does not hold.  With a
    single image there is no interval.
    """
    if n < 1 or not 0 < confidence < 1:
        raise ValueError(f"n must be at least 1 and confidence within 0..1, not {n} and {confidence}")
    truth = _Content.of(ground_truth, _TRUTH)
    (own, mine), (other, theirs) = (
        _resampled(_Content.of(frame, _DETECTIONS), truth, n, seed) for frame in (cell, reference)
    )
    if not len(mine):
        return Interval(own - other, None, None)
    every = mine - theirs
    tail = (1 - confidence) / 2
    low, high = np.quantile(every[~np.isnan(every)], [tail, 1 - tail])
    return Interval(own - other, float(low), float(high))


@dataclass(frozen=True)
class _Content:
    """A table that equals any other with the same content in the columns that count."""

    table: pd.DataFrame = field(compare=False)
    content: tuple[bytes, ...]

    @classmethod
    def of(cls, table: pd.DataFrame, columns: Sequence[str]) -> Self:
        return cls(table, tuple(table[name].to_numpy().tobytes() for name in columns))


@lru_cache(maxsize=_KEPT)
def _resampled(cell: _Content, ground_truth: _Content, n: int, seed: int) -> tuple[float, NDArray[np.float64]]:
    """mAP50-95 of a cell, and of `n` resamples of its images; there are none of a single image.

    Kept, since all cells of a run are held against the same reference.
    """
    objects = _Objects.build(ground_truth.table)
    curves = _Curves.build(cell.table, objects)
    images = len(objects.images)
    value = float(curves.map(np.ones((1, images)))[0])
    if images < 2:
        return value, np.empty(0)
    draws = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=n)
    step = max(1, _BATCH_ELEMENTS // max(1, curves.elements))
    parts = (draws[start : start + step].astype(np.float64) for start in range(0, n, step))
    return value, np.concatenate([curves.map(weights) for weights in parts])


@dataclass(frozen=True, eq=False)
class _Objects:
    """Objects there are to find: `images` and `classes` sorted ids, `counts` (images, classes); classes have some."""

    images: NDArray[np.int64]
    classes: NDArray[np.int64]
    counts: NDArray[np.float64]

    @classmethod
    def build(cls, ground_truth: pd.DataFrame) -> Self:
        image_ids = ground_truth["image_id"].to_numpy(np.int64)
        rows = ground_truth[(ground_truth["category_id"] >= 0) & (ground_truth["objects"] > 0)]
        if rows.empty:
            raise ValueError("no image has objects, so there is no mAP to compare")
        images = np.unique(image_ids)
        classes, columns = np.unique(rows["category_id"].to_numpy(np.int64), return_inverse=True)
        counts = np.zeros((len(images), len(classes)))
        np.add.at(counts, (np.searchsorted(images, rows["image_id"].to_numpy(np.int64)), columns), rows["objects"])
        return cls(images, classes, counts)


@dataclass(frozen=True, eq=False)
class _Curves:
    """Precision-recall curves of one cell, ready to be weighted.

    `objects` is (images, classes).  Detections are sorted by class, then best first, and read off at `knots`: behind
    some of them, and before the first of a class.  `between` (knots, images) counts how many detections lie between a
    knot and the one before, by image.  Per true positive and IoU threshold, sorted by class, threshold, then best
    first: `hit_image` its image, `hit_knot` the knot behind it, `hit_class_knot` that before its class, `hit_class` its
    class, `segment` the number of its (class, threshold) and `segment_start` the first true positive of that segment.
    `ignored_image` is the image of every detection that counts neither way at a threshold, sorted like those;
    `ignored_range` are, per true positive, the places of those of its segment that are better.
    """

    objects: NDArray[np.float64]
    between: csr_array
    hit_image: NDArray[np.intp]
    hit_knot: NDArray[np.intp]
    hit_class_knot: NDArray[np.intp]
    hit_class: NDArray[np.intp]
    segment: NDArray[np.intp]
    segment_start: NDArray[np.intp]
    ignored_image: NDArray[np.intp]
    ignored_range: tuple[NDArray[np.intp], NDArray[np.intp]]

    @classmethod
    def build(cls, detections: pd.DataFrame, objects: _Objects) -> Self:
        detections = detections[detections["category_id"].isin(objects.classes)]
        image_ids = detections["image_id"].to_numpy(np.int64)
        if len(unknown := np.setdiff1d(image_ids, objects.images)):
            raise ValueError(f"detections name image id {unknown[0]}, which the ground truth does not hold")
        images = np.searchsorted(objects.images, image_ids)
        classes = np.searchsorted(objects.classes, detections["category_id"].to_numpy(np.int64))
        scores = detections["score"].to_numpy(np.float64)
        matched = detections["matched"].to_numpy(np.uint16)
        ignored = detections["ignored"].fillna(0).to_numpy(np.uint16)

        # COCO counts the best detections per class and image only; a stable sort breaks ties as the evaluators do.
        order = np.lexsort((-scores, classes, images))
        group = images[order] * len(objects.classes) + classes[order]
        rank = np.arange(len(group)) - np.searchsorted(group, group)
        order = order[rank < MAX_DETECTIONS_PER_CLASS]
        order = order[np.lexsort((images[order], -scores[order], classes[order]))]
        images, classes, matched, ignored = images[order], classes[order], matched[order], ignored[order]

        hits, segments = _by_segment(matched, classes)
        passed, passed_segments = _by_segment(ignored, classes)
        passed_keys = passed_segments * len(order) + passed
        starts = np.searchsorted(classes, np.arange(len(objects.classes)))[classes[hits]]
        knots = np.unique(np.concatenate([starts, hits + 1]))
        return cls(
            objects=objects.counts,
            between=_between(knots, images, len(objects.images)),
            hit_image=images[hits],
            hit_knot=np.searchsorted(knots, hits + 1),
            hit_class_knot=np.searchsorted(knots, starts),
            hit_class=classes[hits],
            segment=segments,
            segment_start=np.searchsorted(segments, segments),
            ignored_image=images[passed],
            ignored_range=(
                np.searchsorted(passed_keys, segments * len(order)),
                np.searchsorted(passed_keys, segments * len(order) + hits),
            ),
        )

    @property
    def elements(self) -> int:
        """Array elements that one resample needs, for choosing how many to take at once."""
        return self.between.shape[0] + len(self.hit_knot)

    def map(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """mAP50-95 of each resample; `weights` is (resamples, images), how often each image counts. NaN: no objects.

        The rules and the order of operations are those of `COCOeval.accumulate` in pycocotools.
        """
        objects = weights @ self.objects
        present = np.count_nonzero(objects, axis=1)
        all_sums = np.cumsum((self.between @ weights.T).T, axis=1)
        hit_sums = _cumulative(weights[:, self.hit_image])
        hits = hit_sums[:, 1:] - hit_sums[:, self.segment_start]
        detections = all_sums[:, self.hit_knot] - all_sums[:, self.hit_class_knot]
        if len(self.ignored_image):
            ignored_sums = _cumulative(weights[:, self.ignored_image])
            first, last = self.ignored_range
            detections -= ignored_sums[:, last] - ignored_sums[:, first]
        precision = hits / (detections + np.spacing(1))
        reached = _reached(hits / np.maximum(objects, 1)[:, self.hit_class])

        # Lifting each segment above all later ones lets one running maximum from the right serve every segment.
        lift = 2.0 * (self.segment[-1:] - self.segment)
        envelope = np.maximum.accumulate((precision + lift)[:, ::-1], axis=1)[:, ::-1] - lift

        gained = np.diff(reached, axis=1, prepend=0)
        is_start = self.segment_start == np.arange(len(self.segment))
        gained[:, is_start] = reached[:, is_start]
        # Down the columns: along the rows NumPy adds in another order, and the last digit of stored runs would differ.
        total = np.ascontiguousarray((envelope * gained).T).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / (len(RECALLS) * len(IOU_THRESHOLDS) * present), np.float64)


def _by_segment(masks: NDArray[np.uint16], classes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Detections whose bit is set, once per threshold, and their segments; sorted by segment, then best first."""
    found, thresholds = np.nonzero((masks[:, np.newaxis] >> np.arange(len(IOU_THRESHOLDS))) & 1)
    segments = classes[found] * len(IOU_THRESHOLDS) + thresholds
    order = np.argsort(segments, kind="stable")
    return found[order], segments[order]


def _between(knots: NDArray[np.intp], images: NDArray[np.intp], number: int) -> csr_array:
    """How many detections of which image lie before each knot and behind the one before, as (knots, images)."""
    before = images[: knots[-1]] if len(knots) else images[:0]
    rows = np.searchsorted(knots, np.arange(len(before)), side="right")
    return csr_array((np.ones(len(before)), (rows, before)), shape=(len(knots), number))


def _reached(recall: NDArray[np.float64]) -> NDArray[np.intp]:
    """How many of `RECALLS` each recall has reached: what a right-hand `searchsorted` gives, in half its time.

    The product that guesses the nearest below is off by one at most.  A recall above 1, of tables that do not fit each
    other, has reached them all.
    """
    last = len(RECALLS) - 1
    guess = np.minimum(recall * last, last).astype(np.intp)
    more = (guess < last) & (RECALLS[np.minimum(guess + 1, last)] <= recall)
    return guess + 1 + more - (RECALLS[guess] > recall)


def _cumulative(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sums along the rows, with a zero in front."""
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums

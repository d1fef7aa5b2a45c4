"""How often the gate finds a drop of the score that was planted into predictions, by how many images it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import repeat
from typing import Any

import numpy as np
import pandas as pd

from bench.decide import gate
from bench.decide.gate import Verdict
from bench.stats.change import POWER
from bench.tasks.detect.planting import worsened
from bench.tasks.detect.task import DETECT

Map = Callable[..., Iterator[list[bool]]]
"""`map`, or that of an executor."""


@dataclass(frozen=True)
class Predictions:
    """One cell's rows of `detections`, and the `ground_truth` of all its images."""

    rows: pd.DataFrame
    truth: pd.DataFrame


@dataclass(frozen=True)
class Drop:
    """A planted drop of the score on so many images: the share of `draws` in which it was found."""

    drop: float
    images: int
    draws: int
    found: float


def judge(
    given: Predictions,
    drops: Sequence[float],
    images: Sequence[int],
    draws: int,
    margin: float,
    spread: Map = map,
) -> list[Drop]:
    """How often each drop is found on each number of images; numbers above those there are, are left out.

    A draw takes other images, without replacement, and plants the drop into other predictions.  `spread` is `map`, or
    that of an executor.
    """
    there = given.truth["image_id"].nunique()
    sizes = [size for size in images if size <= there]
    shares = np.mean(
        list(spread(_draw, repeat(given, draws), repeat(drops), repeat(sizes), repeat(margin), range(draws))), axis=0
    )
    places = [(size, drop) for size in sizes for drop in drops]
    return [Drop(drop, size, draws, float(share)) for (size, drop), share in zip(places, shares, strict=True)]


def needed(found: Sequence[Drop], drop: float) -> int | None:
    """Fewest images that found a drop as often as `POWER` says; None where as many as there were did not."""
    return min((one.images for one in found if one.drop == drop and one.found >= POWER), default=None)


def as_json(found: Sequence[Drop]) -> list[dict[str, Any]]:
    """Drops, ready for JSON."""
    return [asdict(one) for one in found]


def from_json(stored: Sequence[Mapping[str, Any]]) -> list[Drop]:
    """The drops that `as_json` gave."""
    return [Drop(**one) for one in stored]


def _draw(given: Predictions, drops: Sequence[float], sizes: Sequence[int], margin: float, seed: int) -> list[bool]:
    """Whether each drop is found on each number of images, sizes first."""
    worse = worsened(given.rows, given.truth, drops, seed)
    draw = np.random.default_rng([seed, 1])
    found = []
    for size in sizes:
        chosen = draw.choice(given.truth["image_id"].unique(), size, replace=False)
        truth, rows = (table[table["image_id"].isin(chosen)] for table in (given.truth, given.rows))
        for planted in worse:
            change = DETECT.difference(planted[planted["image_id"].isin(chosen)], rows, truth)
            found.append(gate.of_score(change, margin) is Verdict.WORSE)
    return found

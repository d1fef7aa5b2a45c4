"""What a YOLO task has to say of itself, so that everything else can measure any of them.

A task reads its labels, says what the network's outputs are and in which units, decodes them, and scores predictions
into named metrics.  Adding one means a package beside `detect/` with a `Task`, and an entry in `registry.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from bench.stats import Interval
from bench.tasks.dataset import Dataset
from bench.tasks.letterbox import Letterbox

Tensor = NDArray[np.float32]
Outputs = Mapping[str, Tensor]
"""Raw outputs of one inference by name, each (B, ...)."""
Direction = Literal["higher", "lower"]

Prediction = TypeVar("Prediction")


@dataclass(frozen=True)
class Metric:
    """A figure that a task's score has.  `direction` says which way is better."""

    name: str
    unit: str
    direction: Direction
    meaning: str


@dataclass(frozen=True)
class Output:
    """One raw output of the network: its name in the protocol, its shape in words, and the units of what it holds."""

    name: str
    shape: str
    units: str


@dataclass(frozen=True)
class ParityGroup:
    """Values of the raw outputs that are compared with the reference's together.

    `name` is part of the columns parity_<name>_max, _mean and _p999, `unit` theirs; `take` gives the values.
    """

    name: str
    unit: str
    take: Callable[[Outputs], Tensor]


@dataclass(frozen=True, eq=False)
class Score:
    """What predictions are worth on a data set.

    `values` holds every metric by name, None where it does not exist (no object of that size); `per_class` the headline
    metric of every class that has objects, by name; `evaluator` the library and its version; `rows` the predictions as
    rows of the store's table, ready to be resampled.
    """

    values: Mapping[str, float | None]
    per_class: Mapping[str, float]
    evaluator: str
    rows: pa.Table


class Task(Protocol[Prediction]):
    """A YOLO task."""

    @property
    def name(self) -> str:
        """What Ultralytics calls it."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What a score holds; the first is the headline, by which cells are compared."""

    @property
    def outputs(self) -> Sequence[Output]:
        """The network's raw outputs, in the order of the protocol."""

    @property
    def parity(self) -> Sequence[ParityGroup]:
        """Groups of raw values that are compared with the reference's."""

    @property
    def resampled(self) -> str:
        """What the bootstrap draws: images, for every task whose predictions are matched within an image."""

    def load(self, path: Path, split: str = "val", limit: int | None = None) -> Dataset:
        """Images and labels of one split of a data file.  Raises UsageError naming file, line and remedy."""

    def prepare(self, image: NDArray[np.uint8], imgsz: int) -> tuple[Tensor, Letterbox]:
        """The network's input (1, 3, imgsz, imgsz) of an image (H, W, 3) BGR, and the geometry that decoding needs."""

    def decode(self, outputs: Outputs, box: Letterbox) -> Prediction:
        """What the raw outputs of one image, each without the batch's axis, say."""

    def score(self, cell_id: str, data: Dataset, predictions: Mapping[int, Prediction]) -> Score:
        """Metrics of predictions, keyed by image id, on a data set."""

    def ground_truth(self, data: Dataset) -> pa.Table:
        """Rows of the store's `ground_truth` table."""

    def difference(self, mine: pd.DataFrame, theirs: pd.DataFrame, truth: pd.DataFrame) -> Interval:
        """The headline metric of one cell's rows minus another's on the same images, with its 95 % interval."""


AnyTask = Task[Any]

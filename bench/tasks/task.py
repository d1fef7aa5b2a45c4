"""What a YOLO task has to say of itself, so that everything else can measure any of them.

A task reads its labels, prepares images for the network, says what the network's outputs are and in which units,
decodes them, and scores predictions into named metrics.  Adding one means a package beside `detect/` with a `Task`, an
entry in `registry.py`, and a schema in `bench/store/tables.py` where its predictions are more than boxes.

Thought through for those that Ultralytics has beside detection; what each puts where:

* segment: two outputs, `output` (boxes, scores, mask coefficients) and `prototypes`; parity groups box, score,
  coefficient and prototype; labels are polygons, of any number of points; metrics of boxes and of masks.
* pose: one output, whose keypoints are a parity group of their own, in px; how many there are is in the data file
  (`kpt_shape`), which the reader of labels is made of.
* obb: as detection, with an angle in rad as a parity group; labels are four corners.
* classify: one output (B, classes); images are cropped, not letterboxed, so decoding needs no geometry; the data set is
  a folder per class, so `read` makes the `Dataset` itself; metrics are shares of the images, and images are resampled.
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

from bench.reasons import CellProblem, Collector, Reason
from bench.stats import Interval
from bench.tasks.dataset import Dataset

Tensor = NDArray[np.float32]
Outputs = Mapping[str, Tensor]
"""Raw outputs of one inference by name, each (B, ...)."""
Direction = Literal["higher", "lower"]

Geometry = TypeVar("Geometry")
Prediction = TypeVar("Prediction")


@dataclass(frozen=True)
class Metric:
    """A figure that a task's score has.

    `name` is its column in `cells`, where the table has one, and its name in `metrics`; `label` is what people call it;
    `direction` says which way is better.
    """

    name: str
    label: str
    unit: str
    direction: Direction
    meaning: str


@dataclass(frozen=True)
class Output:
    """One raw output of the network: its name in the protocol, its shape in words, and the units of what it holds.

    Exporters give their manifests' `outputs` these names; the exact shape is the manifest's, since it depends on
    checkpoint and image size.
    """

    name: str
    shape: str
    units: str


@dataclass(frozen=True)
class ParityGroup:
    """Values of the raw outputs that are compared with the reference's together.

    `name` is part of the figures parity_<name>_max, _mean and _p999, `unit` theirs; `take` gives the values.
    """

    name: str
    unit: str
    take: Callable[[Outputs], Tensor]

    def gaps(self, mine: Outputs, theirs: Outputs) -> Tensor:
        """Absolute differences of the group's values on one input, flat.

        Raises CellProblem(OUTPUT_INVALID) where the two are not of one shape: numpy would stretch one to the other.
        """
        own, other = self.take(mine), self.take(theirs)
        if own.shape != other.shape:
            text = f"the {self.name} values are {own.shape}, those of PyTorch FP32 {other.shape}"
            raise CellProblem(Reason.OUTPUT_INVALID, text)
        gaps: Tensor = np.abs(own - other).ravel()
        return gaps


@dataclass(frozen=True, eq=False)
class Score:
    """What predictions are worth on a data set.

    `values` holds every metric by name, None where it does not exist (no object of that size); `per_class` the headline
    metric of every class that has objects, by name; `evaluator` the library and its version; `rows` the predictions as
    rows of the task's table, ready to be resampled.
    """

    values: Mapping[str, float | None]
    per_class: Mapping[str, float]
    evaluator: str
    rows: pa.Table


class Task(Protocol[Geometry, Prediction]):
    """A YOLO task: `Geometry` is what decoding needs of an image's preparation, `Prediction` what comes out."""

    @property
    def name(self) -> str:
        """What Ultralytics calls it."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What a score holds; the first is the headline, by which cells are compared, and more of it is better."""

    @property
    def delta(self) -> Metric:
        """The headline's difference from PyTorch FP32 on the same images."""

    @property
    def outputs(self) -> Sequence[Output]:
        """The network's raw outputs, in the order of the protocol."""

    @property
    def parity(self) -> Sequence[ParityGroup]:
        """Groups of raw values that are compared with the reference's."""

    @property
    def table(self) -> str:
        """The store's table of its predictions; it has the columns cell_id and `resampled`."""

    @property
    def resampled(self) -> str:
        """What the bootstrap draws, as a column of predictions and ground truth.

        `image_id` for every task whose predictions are matched within an image.
        """

    def read(
        self,
        path: Path,
        problems: Collector,
        *,
        split: str = "val",
        limit: int | None = None,
        kept: Path | None = None,
    ) -> Dataset | None:
        """Images and labels of one split of a data file, or of `limit` of its images, evenly spaced.

        Whatever is wrong becomes one of the `problems`, naming file, line and remedy; the set lacks it, or is None.
        `kept` is a file that remembers from one time to the next what has been looked at.
        """

    def prepare(self, image: NDArray[np.uint8], imgsz: int) -> tuple[NDArray[np.uint8], Geometry]:
        """Pixels of the network's input (imgsz, imgsz, 3), RGB, of an image (H, W, 3) BGR, and how it was fitted in.

        The network takes them as `bench.tasks.letterbox.tensor` gives them.
        """

    def decode(self, outputs: Outputs, geometry: Geometry) -> Prediction:
        """What the raw outputs of one image, each without the batch's axis, say."""

    def pack(self, found: Mapping[int, Prediction]) -> pa.Table:
        """Predictions by image id as rows with the column `image_id`, one an image, for `unpack` to give back."""

    def unpack(self, rows: pa.Table) -> dict[int, Prediction]:
        """The predictions that `pack` was given."""

    def score(self, cell_id: str, data: Dataset, predictions: Mapping[int, Prediction]) -> Score:
        """Metrics of predictions, keyed by image id, on a data set."""

    def ground_truth(self, data: Dataset) -> pa.Table:
        """Rows of the store's `ground_truth` table."""

    def difference(self, mine: pd.DataFrame, theirs: pd.DataFrame, truth: pd.DataFrame) -> Interval:
        """The headline metric of one cell's rows minus another's on the same images, with its 95 % interval."""


AnyTask = Task[Any, Any]


def require_outputs(task: AnyTask, outputs: Outputs) -> None:
    """Raise CellProblem(OUTPUT_INVALID) unless a network has the outputs of its task, in whatever order."""
    wanted = [output.name for output in task.outputs]
    if sorted(outputs) != sorted(wanted):
        text = f"the network's outputs are {', '.join(outputs)}; the task {task.name} has {', '.join(wanted)}"
        raise CellProblem(Reason.OUTPUT_INVALID, text)

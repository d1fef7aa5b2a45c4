"""What is measured of a cell, what a run was asked to do, and what cells are compared with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.matrix import Sweep


class Stage(StrEnum):
    """What is measured of a cell, in the order it is done; each is one pytest suite."""

    EXPORT = "export"
    FOOTPRINT = "footprint"
    PARITY = "parity"
    ACCURACY = "accuracy"
    ATTESTATION = "attestation"
    LATENCY = "latency"


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do."""

    sweep_name: str
    sweep: Sweep
    results: Path
    cache: Path
    run_id: str
    reproduce: str = ""
    """Command-line options that ask for this model and data again."""


@dataclass
class Reference:
    """What cells are compared with: PyTorch FP32's raw outputs on some images and its detections on all."""

    outputs: list[npt.NDArray[np.float32]] = field(default_factory=list)
    detections: pd.DataFrame = field(default_factory=pd.DataFrame)

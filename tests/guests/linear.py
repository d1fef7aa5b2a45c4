"""A well-behaved runtime adapter without a runtime: outputs that a test can compute in its head."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec)


def prepare(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    del model
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> np.ndarray:
    """The mean of each image, in every output value; one tenth of it where units are 0..1 and the side is ten."""
    time.sleep(float(model["options"].get("seconds", 0.0)))
    output = model["manifest"]["output"]
    shape = (prepared.shape[0], *output["shape"][1:])
    means = prepared.mean(axis=(1, 2, 3), dtype=np.float64).reshape(-1, 1, 1)
    values = np.broadcast_to(means, shape)
    return values.transpose(0, 2, 1) if output["layout"] == "channels_last" else values


def attest(model: dict[str, Any]) -> dict[str, Any]:
    import os

    return {
        "device": model["target"],
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "variables": dict(os.environ),
    }

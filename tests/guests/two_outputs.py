"""A runtime adapter of a made-up task: points (B, 3, 4) and a map (B, 2, 5, 5), or as `behaviour` says."""

from __future__ import annotations

from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec)


def prepare(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    del model
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> dict[str, np.ndarray]:
    """The mean of each image in every point, and a ramp times that mean in the map, as its manifest lays it out."""
    means = prepared.mean(axis=(1, 2, 3), dtype=np.float64)
    points = means.reshape(-1, 1, 1) * np.ones((1, 3, 4))
    plane = means.reshape(-1, 1, 1, 1) * np.arange(50.0).reshape(1, 2, 5, 5)
    plane += float(model["options"].get("shift", 0.0))
    match model["options"].get("behaviour"):
        case "names":
            return {"points": points, "mask": plane}
        case "missing":
            return {"points": points}
        case "shape":
            plane = plane[:, :, :-1]
        case "batch":
            plane = plane[:-1]
        case "nan":
            plane[0, 1, 2, 3] = np.nan
    if model["manifest"]["outputs"]["plane"]["layout"] == "channels_last":
        plane = plane.transpose(0, 2, 3, 1)
    return {"plane": plane, "points": points}


def attest(model: dict[str, Any]) -> dict[str, Any]:
    return {"device": model["target"]}

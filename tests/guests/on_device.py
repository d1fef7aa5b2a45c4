"""A runtime adapter whose inferences on a device take what its options say, or which does what they say instead."""

from __future__ import annotations

from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec["options"])


def prepare(_model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x


def infer(_model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return np.zeros((len(x), 6, 5), np.float32)


def time_on_device(model: dict[str, Any], _prepared: np.ndarray, n: int, *, graph: bool) -> Any:
    """What the options `alone` and `graph` hold: a time that the first two exceed, an answer, or an error's text."""
    told = model["graph" if graph else "alone"]
    if isinstance(told, str):
        raise RuntimeError(told)  # noqa: TRY004 - what a runtime says
    return [100.0, 50.0, *[told] * (n - 2)] if isinstance(told, float) else told


def attest(_model: dict[str, Any]) -> dict[str, Any]:
    return {}

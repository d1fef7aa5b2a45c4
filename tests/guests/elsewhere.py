"""An adapter whose inference happens somewhere else, as a browser's does: other clock, other processes."""

from __future__ import annotations

from typing import Any

import numpy as np


def load(_spec: dict[str, Any]) -> dict[str, int]:
    """Counters."""
    return {"timed": 0, "cpu": 0}


def prepare(_model: dict[str, int], x: np.ndarray) -> np.ndarray:
    """The input as it is."""
    return x


def infer(_model: dict[str, int], x: np.ndarray) -> np.ndarray:
    """Eight candidates without any class above 0."""
    return np.zeros((len(x), 6, 8), np.float32)


def time_inside(model: dict[str, int], x: np.ndarray, n: int) -> list[int]:
    """7 ms each by the clock over there."""
    model["timed"] += n
    model["batch"] = len(x)
    return [7_000_000] * n


def output(model: dict[str, int]) -> np.ndarray:
    """What the last of them gave; to hand it out takes CPU time over there."""
    model["cpu"] += 5_000_000_000
    return np.zeros((model["batch"], 6, 8), np.float32)


def cpu_ns(model: dict[str, int]) -> int:
    """One more second each time."""
    model["cpu"] += 1_000_000_000
    return model["cpu"]


def footprint(_model: dict[str, int]) -> dict[str, int]:
    """What the other processes hold."""
    return {"peak_rss_bytes": 123_456_789, "threads": 77}


def emulated(_model: dict[str, int]) -> str:
    """A stand-in."""
    return "a cardboard box"


def attest(model: dict[str, int]) -> dict[str, Any]:
    """How often it was asked to time."""
    return {"timed": model["timed"]}

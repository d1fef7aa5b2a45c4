"""A runtime adapter with a clock of its own: times are drawn, not taken, so that a test knows what must be found."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    options = spec["options"]
    # A process keeps a speed of its own, as real ones do; drawn by its place among the launches, so that a test that
    # passed once passes always.
    with Path(options["launches"]).open("ab") as launches:
        launches.write(b".")
        launch = launches.tell()
    draw = np.random.default_rng([int(options["seed"]), launch])
    return {"ms": float(options["ms"]) * float(np.exp(draw.normal(0, float(options["process"])))), "draw": draw}


def prepare(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    del model
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> np.ndarray:
    del model
    return np.zeros((len(prepared), 5, 4), np.float32)


def time_inside(model: dict[str, Any], prepared: np.ndarray, n: int) -> list[int]:
    model["timed"] = prepared
    return [round(1e6 * model["ms"] * float(np.exp(model["draw"].normal(0, 0.01)))) for _ in range(n)]


def output(model: dict[str, Any]) -> np.ndarray:
    return infer(model, model["timed"])


def attest(model: dict[str, Any]) -> dict[str, Any]:
    return {"compute": "f32", "version": "1", "tunables": os.environ.get("GLIBC_TUNABLES", ""), "ms": model["ms"]}

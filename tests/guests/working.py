"""A runtime adapter that really works: products of matrices as many as it is told."""

from __future__ import annotations

from typing import Any

import numpy as np


def load(spec: dict[str, Any]) -> dict[str, Any]:
    return {"products": int(spec["options"]["products"]), "matrix": np.ones((96, 96), np.float32)}


def prepare(model: dict[str, Any], x: np.ndarray) -> np.ndarray:
    del model
    return x


def infer(model: dict[str, Any], prepared: np.ndarray) -> np.ndarray:
    for _ in range(model["products"]):
        model["matrix"] @ model["matrix"]
    return np.broadcast_to(prepared.mean(axis=(1, 2, 3)).reshape(-1, 1, 1), (len(prepared), 5, 4))


def attest(model: dict[str, Any]) -> dict[str, Any]:
    return {"compute": "f32", "version": "1", "products": model["products"]}

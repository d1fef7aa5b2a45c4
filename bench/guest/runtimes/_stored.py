"""In which type a runtime keeps numbers that it hands out as float32."""

from __future__ import annotations

import numpy as np


def stored_as(values: np.ndarray) -> str:
    """The narrowest float that holds all of the float32 `values` exactly: f16, bf16 or f32."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16).astype(np.float32)
    if np.array_equal(half, values):
        return "f16"
    return "f32" if np.any(values.view(np.uint32) & 0xFFFF) else "bf16"

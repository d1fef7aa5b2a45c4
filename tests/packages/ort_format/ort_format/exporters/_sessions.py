"""Sessions of ONNX Runtime, as the exporter makes them."""

from __future__ import annotations

from typing import Any

import onnxruntime


def options() -> Any:
    """Options of a session that leaves the graph as any processor can run it."""
    made = onnxruntime.SessionOptions()
    made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    return made

"""ONNX Runtime on a file of its own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ._device import provider

TYPES = {"tensor(float)": "f32", "tensor(float16)": "f16"}


def load(spec: dict[str, Any]) -> Any:
    """A session with as many threads as asked."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = spec["threads"]
    options.inter_op_num_threads = 1
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    return onnxruntime.InferenceSession(str(path), options, providers=[provider(spec["target"])])


def prepare(model: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """The input by its name."""
    return {model.get_inputs()[0].name: x}


def infer(model: Any, prepared: dict[str, np.ndarray]) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    output: np.ndarray = model.run(None, prepared)[0]
    return output


def attest(model: Any) -> dict[str, Any]:
    """What the session says of itself."""
    meta = model.get_inputs()[0]
    return {
        "device": "cpu" if model.get_providers()[0] == "CPUExecutionProvider" else model.get_providers()[0],
        "compute": TYPES.get(meta.type, meta.type),
        "threads": model.get_session_options().intra_op_num_threads,
        "input_shape": list(meta.shape),
        "version": onnxruntime.__version__,
        "declared": ["compute", "threads"],  # the type of the input, and the number asked for
    }

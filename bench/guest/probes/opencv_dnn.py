"""OpenCV's DNN module, its own engine, on an ONNX file.  Not an option of the guide: one more reader of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..refusals import TargetUnsupported


def load(spec: dict[str, Any]) -> Any:
    """The network, on OpenCV's own CPU engine, never on ONNX Runtime's, which newer builds can call instead."""
    if not spec["target"].endswith("cpu"):
        raise TargetUnsupported(f"OpenCV is run on the CPU here, not on {spec['target']}.")
    cv2.setNumThreads(int(spec["threads"]))
    path = str(Path(spec["artifact_dir"]) / spec["manifest"]["entry"])
    own = [cv2.dnn.ENGINE_NEW] if hasattr(cv2.dnn, "ENGINE_NEW") else []
    return cv2.dnn.readNetFromONNX(path, *own)


def prepare(_model: Any, x: np.ndarray) -> np.ndarray:
    """The input as it is."""
    return x


def infer(model: Any, prepared: np.ndarray) -> np.ndarray:
    """Raw output (B, 4 + classes, anchors)."""
    model.setInput(prepared)
    output: np.ndarray = model.forward()
    return output


def attest(_model: Any) -> dict[str, Any]:
    """The version; OpenCV does not say which kernels ran."""
    return {"device": "cpu", "version": cv2.__version__}

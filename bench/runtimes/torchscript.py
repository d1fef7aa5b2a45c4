"""TorchScript: the traced archive, without ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ._torch import Model, PrecisionUnsupported, attest, device_of, dtype_of, infer, prepare

__all__ = ["attest", "infer", "load", "prepare"]


def load(spec: dict[str, Any]) -> Model:
    """The archive on the device of the target.  It was traced in FP32 and keeps that."""
    device, dtype = device_of(spec), dtype_of(spec)
    if dtype != torch.float32:
        raise PrecisionUnsupported("The archive is traced in FP32; ultralytics traces FP16 on a GPU only.")
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    network = torch.jit.load(str(path), map_location=device).eval()
    return Model(network, device, dtype, (spec["batch"], 3, spec["imgsz"], spec["imgsz"]))

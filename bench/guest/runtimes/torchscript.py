"""TorchScript: the traced archive, without ultralytics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ._torch import Model, attest, device_of, dtype_of, infer, prepare, profile, time_on_device

__all__ = ["attest", "infer", "load", "prepare", "profile", "time_on_device"]


def load(spec: dict[str, Any]) -> Model:
    """The archive on the device of the target, in the precision of its weights."""
    device, dtype = device_of(spec), dtype_of(spec)
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    network = torch.jit.load(str(path), map_location=device).eval()
    return Model(network, device, dtype, (spec["batch"], 3, spec["imgsz"], spec["imgsz"]))

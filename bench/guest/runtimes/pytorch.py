"""PyTorch: the checkpoint as ultralytics loads it, convolutions and batch norms fused, in inference mode."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

# ultralytics names the machine by its network address in settings that nobody reads here; asking for it takes a socket.
uuid.getnode = lambda: 0

from ultralytics import YOLO  # noqa: E402 - after the line above

from ._torch import Model, attest, device_of, dtype_of, infer, prepare, profile, time_on_device  # noqa: E402 - likewise

__all__ = ["attest", "infer", "load", "prepare", "profile", "time_on_device"]


def load(spec: dict[str, Any]) -> Model:
    """The checkpoint on the device of the target, in the precision asked for."""
    device, dtype = device_of(spec), dtype_of(spec)
    path = Path(spec["artifact_dir"]) / spec["manifest"]["entry"]
    network = YOLO(str(path)).model.float().fuse(verbose=False).eval().to(device=device, dtype=dtype)
    return Model(network, device, dtype, (spec["batch"], 3, spec["imgsz"], spec["imgsz"]))

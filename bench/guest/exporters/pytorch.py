"""PyTorch: what is deployed is the checkpoint itself, byte for byte."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ultralytics import YOLO

from ..refusals import PrecisionUnsupported
from ._ultralytics import describe


def export(request: dict[str, Any]) -> dict[str, Any]:
    """Copy the checkpoint as model.pt; every precision of PyTorch is a matter of running it."""
    if request["precision"] != "fp32":
        raise PrecisionUnsupported(f"A checkpoint is exported as fp32 only, not as {request['precision']}.")
    weights = Path(request["weights"])
    shutil.copyfile(weights, Path(request["output_dir"]) / "model.pt")
    reply = describe(YOLO(str(weights)).model, weights, int(request["imgsz"]), int(request["batch"]))
    return {**reply, "files": ["model.pt"], "entry": "model.pt", "reproduce": f"cp {weights.name} model.pt"}
